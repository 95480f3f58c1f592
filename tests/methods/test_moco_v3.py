"""MoCo v3: its loss from its own embeddings, and the teacher."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ssl_zoo.errors import UserError
from ssl_zoo.method import METHODS, Batch
from ssl_zoo.methods.moco_v3 import MoCoV3
from ssl_zoo.runs.config import run_config
from tests.small import COUNTS, batch, progress, run_info, small_method, tiny_backbone

WITHOUT_LOCAL = ((32, 2),)
SEVERAL = ((32, 3), (16, 2))


def moco(*overrides: str) -> MoCoV3:
    torch.manual_seed(0)
    method = small_method("moco_v3", *overrides, run=run_info())
    assert isinstance(method, MoCoV3)
    with (
        torch.no_grad()
    ):  # weights of the teacher's own, so that mistaking it for the student shows
        for parameter in method.teacher.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return method


def embeddings(method: MoCoV3, views: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Returns normalised queries `(V, B, d)` and keys `(V_g, B, d)` in float64."""
    n_images = views[0].shape[1]
    with torch.no_grad():
        features = torch.cat([method.backbone(group.flatten(0, 1)) for group in views])
        q = method.predictor(method.head(features))
        k = method.teacher.head(method.teacher.backbone(views[0].flatten(0, 1)))
    queries, keys = (normalize(x.double(), dim=1).view(-1, n_images, x.shape[1]) for x in (q, k))
    return queries, keys


def ctr(q: Tensor, k: Tensor, temperature: float) -> Tensor:
    """The paper's Algorithm 1 for one pair of views `(B, d)`."""
    terms = []
    for b in range(len(q)):
        logits = torch.stack([q[b] @ key for key in k]) / temperature
        terms.append(-(logits[b].exp() / logits.exp().sum()).log())
    return 2 * temperature * torch.stack(terms).mean()


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_two_views_give_the_loss_of_algorithm_1(temperature: float) -> None:
    method = moco(f"method.temperature={temperature}")
    views = batch(counts=WITHOUT_LOCAL).views
    q, k = embeddings(method, views)
    loss = method(Batch(views, torch.arange(8)), progress()).loss.detach()
    expected = ctr(q[0], k[1], temperature) + ctr(q[1], k[0], temperature)
    assert float(loss) == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize("counts", [COUNTS, SEVERAL])
def test_every_view_looks_for_each_other_global_view(
    counts: tuple[tuple[int, int], ...],
) -> None:
    method = moco()
    views = batch(counts=counts).views
    q, k = embeddings(method, views)
    pairs = [(v, g) for v in range(len(q)) for g in range(len(k)) if v != g]
    terms = [ctr(q[v], k[g], method.config.temperature) for v, g in pairs]
    loss = method(Batch(views, torch.arange(8)), progress()).loss.detach()
    assert float(loss) == pytest.approx(2 * float(torch.stack(terms).mean()), abs=1e-5)


def test_local_crops_have_no_keys() -> None:
    method, seen = moco(), []
    method.teacher.backbone.register_forward_hook(
        lambda m, inputs, o: seen.append(inputs[0].shape)
    )
    method(batch(counts=SEVERAL), progress())
    assert seen == [(3 * 8, 3, 32, 32)]


def test_no_gradient_reaches_the_teacher() -> None:
    method = moco()
    method(batch(), progress()).loss.backward()
    assert all(parameter.grad is None for parameter in method.teacher.parameters())
    assert all(parameter.grad is not None for parameter in method.predictor.parameters())


@pytest.mark.parametrize(("step", "momentum"), [(0, 0.6), (50, 0.8), (100, 1.0)])
def test_the_momentum_grows_to_one_on_half_a_cosine(step: int, momentum: float) -> None:
    method = moco("method.momentum={start: 0.6, end: 1}")
    own = method.teacher.head.layers[0].weight
    student = method.head.layers[0].weight.detach()
    expected = momentum * own + (1 - momentum) * student
    method.after_step(progress(step))
    torch.testing.assert_close(own, expected)


def test_the_teacher_has_no_predictor() -> None:
    names = {name for name, _ in moco().teacher.named_children()}
    assert names == {"backbone", "head"}


def test_metrics_compare_with_a_guess() -> None:
    method = moco()
    metrics = method(batch(1), progress()).metrics()
    assert metrics["loss_over_chance"] == 0  # a single image is always found
    assert -1 <= metrics["positive_cosine"] <= 1


def test_defaults_are_those_of_the_authors() -> None:
    config = MoCoV3.Config()
    assert config.temperature == 1
    assert (config.momentum.start, config.momentum.end) == (0.99, 1)


def test_heads_are_those_of_the_authors_for_a_resnet() -> None:
    method: Any = METHODS.build(MoCoV3.Config(), backbone=tiny_backbone(), run=run_info())
    hidden = ["Linear", "BatchNorm1d", "ReLU"]
    assert [type(layer).__name__ for layer in method.head.layers] == [
        *hidden,
        "Linear",
        "BatchNorm1d",
    ]
    assert not method.head.layers[-1].affine
    assert [type(layer).__name__ for layer in method.predictor.layers] == [*hidden, "Linear"]
    linear = [layer for layer in method.modules() if isinstance(layer, torch.nn.Linear)]
    assert all(layer.bias is None for layer in linear)


def test_heads_are_those_of_the_authors_for_a_vit() -> None:
    settings: Any = run_config("moco_v3@imagenet-vit-s-300ep").method
    assert settings.head.hidden_dims == [4096, 4096]
    assert settings.predictor.output_batch_norm
    assert settings.temperature == 0.2


def test_a_predictor_of_another_length_is_refused() -> None:
    with pytest.raises(UserError, match="32 .* set method.predictor.output_dim=64"):
        moco("method.predictor.output_dim=32")


def test_a_momentum_below_zero_is_refused() -> None:
    with pytest.raises(UserError, match="must be between 0 and 1"):
        moco("method.momentum=-0.1")
