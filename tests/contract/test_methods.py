"""What every registered method must do; registering a method signs it up for these tests."""

import copy
import inspect
import math

import pytest
import torch

from ssl_zoo.method import Method
from ssl_zoo.registries import METHODS
from ssl_zoo.run_config import recipe_names, run_config
from tests.small import batch, fast_config, progress, run_info, small_method

NAMES = METHODS.names()


def take_step(
    method: Method, optimizer: torch.optim.Optimizer, step: int, **shape: object
) -> float:
    torch.manual_seed(step)
    method.before_step(progress(step))
    optimizer.zero_grad()
    output = method(batch(**shape), progress(step))  # type: ignore[arg-type]
    output.loss.backward()
    method.after_backward(progress(step))
    optimizer.step()
    method.after_step(progress(step))
    return float(output.loss.detach())


def prepared(name: str) -> tuple[Method, torch.optim.Optimizer]:
    torch.manual_seed(0)
    method = small_method(name, run=run_info(400))
    return method, torch.optim.SGD(method.parameters(), lr=0.1, momentum=0.9)


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_is_a_finite_scalar(name: str) -> None:
    method, optimizer = prepared(name)
    assert all(math.isfinite(take_step(method, optimizer, step)) for step in range(2))


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_without_local_crops(name: str) -> None:
    method, optimizer = prepared(name)
    assert math.isfinite(take_step(method, optimizer, 0, counts=((32, 2),)))


@pytest.mark.parametrize("name", NAMES)
def test_it_survives_duplicated_images(name: str) -> None:
    method, _ = prepared(name)
    same = batch(1)
    views = [view.expand(-1, 8, -1, -1, -1).contiguous() for view in same.views]
    output = method(type(same)(views, torch.arange(8)), progress(50))
    output.loss.backward()
    assert torch.isfinite(output.loss)
    assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_moves_once_nothing_is_frozen(name: str) -> None:
    torch.manual_seed(0)
    config = fast_config(name).method
    if "freeze_prototypes" in type(config).model_fields:
        config = fast_config(name, "method.freeze_prototypes=0 steps").method
    small = small_method(name, run=run_info(400))
    method: Method = METHODS.build(config, backbone=small.backbone, run=run_info(400))
    before = copy.deepcopy(method.state_dict())
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    for step in range(2):
        take_step(method, optimizer, step)
    unmoved = [key for key, p in method.named_parameters() if torch.equal(p, before[key])]
    assert unmoved == []


@pytest.mark.parametrize("name", NAMES)
def test_a_restored_method_takes_the_same_step(name: str) -> None:
    method, optimizer = prepared(name)
    for step in range(3):
        take_step(method, optimizer, step)
    other, other_optimizer = prepared(name)
    other.load_state_dict(method.state_dict())
    other_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    other.load_rank_state([copy.deepcopy(method.rank_state())])
    assert take_step(method, optimizer, 3) == take_step(other, other_optimizer, 3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_is_finite(name: str, dtype: torch.dtype) -> None:
    method, _ = prepared(name)
    torch.manual_seed(0)
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


@pytest.mark.parametrize("name", NAMES)
def test_the_digits_recipe_is_small(name: str) -> None:
    config = run_config(name)
    assert config.backbone.name == "tiny_resnet"
    assert config.data.name == "digits_affine"


@pytest.mark.parametrize("name", NAMES)
def test_exported_is_a_submodule(name: str) -> None:
    method = small_method(name, run=run_info(400))
    assert any(module is method.exported for module in method.modules())
