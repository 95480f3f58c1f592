"""What every registered method must do; registering a method signs it up for these tests.

Lower bounds, which do not train, must only be named, exported and saved.
"""

import copy
import inspect
import math
from typing import Any

import pytest
import torch

from ssl_zoo.augmentations.base import AUGMENTATIONS
from ssl_zoo.method import METHODS, Batch, Method
from ssl_zoo.runs.config import run_config
from ssl_zoo.runs.recipes import recipe_names, recipe_text
from tests.small import Epoch, batch, progress, run_info, small_method

NAMES = METHODS.names()
TRAINED = [name for name in NAMES if METHODS[name].trains]
OURS = [name for name in TRAINED if METHODS[name].__module__.startswith("ssl_zoo.methods.")]


def take_step(
    method: Method, optimizer: torch.optim.Optimizer, step: int, **shape: object
) -> float:
    torch.manual_seed(step)
    if step % 10 == 0:
        method.before_epoch(progress(step), Epoch(**shape))  # type: ignore[arg-type]
    method.before_step(progress(step))
    optimizer.zero_grad()
    output = method(batch(**shape), progress(step))  # type: ignore[arg-type]
    output.loss.backward()
    method.after_backward(progress(step))
    optimizer.step()
    method.after_step(progress(step))
    method.commit(progress(step))
    return float(output.loss.detach())


def prepared(name: str) -> tuple[Method, torch.optim.Optimizer]:
    torch.manual_seed(0)
    method = small_method(name, run=run_info(400))
    return method, torch.optim.SGD(method.parameters(), lr=0.1, momentum=0.9)


@pytest.mark.parametrize("name", TRAINED)
def test_the_loss_is_a_finite_scalar(name: str) -> None:
    method, optimizer = prepared(name)
    assert all(math.isfinite(take_step(method, optimizer, step)) for step in range(2))


@pytest.mark.parametrize("name", TRAINED)
def test_features_are_rows_of_the_backbone_without_gradient(name: str) -> None:
    method, _ = prepared(name)
    method.before_epoch(progress(), Epoch())
    features = method(batch(), progress()).features
    assert not features.requires_grad
    assert features.shape[1] == method.backbone.feature_dim
    assert len(features) % 8 == 0


@pytest.mark.parametrize("name", TRAINED)
def test_it_runs_without_local_crops(name: str) -> None:
    method, optimizer = prepared(name)
    assert math.isfinite(take_step(method, optimizer, 0, counts=((32, 2),)))


@pytest.mark.parametrize("name", TRAINED)
def test_it_survives_duplicated_images(name: str) -> None:
    method, _ = prepared(name)
    method.before_epoch(progress(50), Epoch())
    same = batch(1)
    views = [view.expand(-1, 8, -1, -1, -1).contiguous() for view in same.views]
    labels, masks = torch.zeros(8, dtype=torch.long), batch(8).masks
    output = method(Batch(views, torch.arange(8), labels, masks), progress(50))
    output.loss.backward()
    assert torch.isfinite(output.loss)
    assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", TRAINED)
def test_every_trainable_parameter_moves_or_is_named_as_frozen(name: str) -> None:
    method, optimizer = prepared(name)
    before = copy.deepcopy(method.state_dict())
    for step in range(2):
        take_step(method, optimizer, step)
    named = {id(p) for step in range(2) for p in method.frozen(progress(step))}
    unmoved = [
        key
        for key, p in method.named_parameters()
        if p.requires_grad and torch.equal(p, before[key]) and id(p) not in named
    ]
    assert unmoved == []


@pytest.mark.parametrize("name", TRAINED)
def test_frozen_parameters_stay(name: str) -> None:
    method, optimizer = prepared(name)
    before = copy.deepcopy(method.state_dict())
    take_step(method, optimizer, 0)
    frozen = {id(p) for p in method.frozen(progress(0))}
    moved = [
        key
        for key, p in method.named_parameters()
        if id(p) in frozen and not torch.allclose(p, before[key], atol=1e-6)
    ]
    assert moved == []


@pytest.mark.parametrize("name", TRAINED)
def test_a_restored_method_takes_the_same_step(name: str) -> None:
    method, optimizer = prepared(name)
    for step in range(3):
        take_step(method, optimizer, step)
    other, other_optimizer = prepared(name)
    other.load_state_dict(method.state_dict())
    other_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    other.load_rank_state([copy.deepcopy(method.rank_state())])
    assert take_step(method, optimizer, 3) == take_step(other, other_optimizer, 3)


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_is_finite(name: str, dtype: torch.dtype) -> None:
    method, _ = prepared(name)
    torch.manual_seed(0)
    method.before_epoch(progress(), Epoch())
    with torch.autocast("cpu", dtype):
        output = method(batch(), progress())
    output.loss.backward()
    assert output.loss.dtype == torch.float32
    assert torch.isfinite(output.loss)


@pytest.mark.parametrize("name", NAMES)
def test_settings_survive_json(name: str) -> None:
    config = METHODS.config(name)
    assert METHODS.config(type(config).model_validate_json(config.model_dump_json())) == config


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_is(name: str) -> None:
    cls = METHODS[name]
    assert inspect.getdoc(cls) != inspect.getdoc(Method)
    assert cls.paper
    assert "digits" in recipe_names(name)


@pytest.mark.parametrize("name", TRAINED)
def test_the_digits_recipe_is_small(name: str) -> None:
    config = run_config(name)
    assert config.backbone.name in ("tiny_resnet", "vit")
    assert config.data.name == "digits_affine"


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_says_where_it_comes_from(name: str) -> None:
    for recipe in recipe_names(name):
        said = [line for line in recipe_text(name, recipe).splitlines() if line.startswith("#")]
        for word in ("Source", "Expected", "Cost", "Command"):
            assert any(word in line for line in said), f"{name}@{recipe} does not state its {word}"


@pytest.mark.parametrize("name", OURS)
def test_small_crops_are_a_switch_of_every_recipe_that_can_use_them(name: str) -> None:
    for recipe in recipe_names(name):
        augmentation: Any = run_config(f"{name}@{recipe}").augmentation
        if augmentation.mask is not None:
            continue  # of an image with hidden patches there is one view
        sizes = [
            len(AUGMENTATIONS.build({**augmentation.model_dump(), "local_crops": on}).view_counts)
            for on in (False, True)
        ]
        assert sizes[0] == 1 < sizes[1]


@pytest.mark.parametrize("name", NAMES)
def test_exported_is_a_submodule(name: str) -> None:
    method = small_method(name, run=run_info(400))
    assert any(module is method.exported for module in method.modules())
