"""SimSiam: its loss from equations 1 to 4, the stopped gradient, and the predictor's rate."""

import pytest
import torch
from torch import Tensor, nn

from ssl_zoo.errors import UserError
from ssl_zoo.method import Batch
from ssl_zoo.methods.simsiam import SimSiam
from ssl_zoo.optim.base import OPTIMIZERS
from tests.small import batch, progress, run_info, small_method, tiny_backbone


def simsiam(*overrides: str) -> SimSiam:
    torch.manual_seed(0)
    method = small_method("simsiam", *overrides, run=run_info(400))
    assert isinstance(method, SimSiam)
    return method


def outputs(method: SimSiam, views: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Returns predictions p and embeddings z, `(V, B, d)`."""
    features = torch.cat([method.backbone(group.flatten(0, 1)) for group in views])
    z = method.head(features)
    shape = (-1, views[0].shape[1], z.shape[1])
    return method.predictor(z).view(shape), z.view(shape)


def distance(p: Tensor, z: Tensor) -> Tensor:
    """Equation 1, with the stopped gradient of equation 3."""
    z = z.detach()
    unit_p, unit_z = p / p.norm(dim=1, keepdim=True), z / z.norm(dim=1, keepdim=True)
    mean: Tensor = (unit_p * unit_z).sum(dim=1).mean()
    return -mean


def test_two_views_are_equation_4_with_its_gradient() -> None:
    method = simsiam().double()
    views = [group.double() for group in batch(counts=((32, 2),)).views]
    parameters = list(method.parameters())
    loss = method(Batch(views, torch.arange(8)), progress()).loss
    p, z = outputs(method, views)
    expected = distance(p[0], z[1]) / 2 + distance(p[1], z[0]) / 2
    torch.testing.assert_close(loss, expected)
    gradients = torch.autograd.grad(loss, parameters)
    for got, right in zip(gradients, torch.autograd.grad(expected, parameters), strict=True):
        torch.testing.assert_close(got, right)


def test_local_views_predict_global_ones_and_are_no_targets() -> None:
    method = simsiam().double()
    views = [group.double() for group in batch(counts=((32, 2), (16, 3))).views]
    loss = method(Batch(views, torch.arange(8)), progress()).loss
    p, z = outputs(method, views)
    terms = [distance(p[v], z[g]) for v in range(5) for g in range(2) if v != g]
    torch.testing.assert_close(loss, torch.stack(terms).mean())


def test_the_predictor_alone_keeps_its_peak_rate() -> None:
    method = simsiam()
    others, predictor = method.param_groups()
    assert {id(p) for p in predictor["params"]} == {id(p) for p in method.predictor.parameters()}
    assert (predictor["constant_lr"], "constant_lr" in others) == (True, False)
    grouped = [id(p) for group in (others, predictor) for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in method.parameters())


def test_optimizers_keep_the_mark_of_the_predictor() -> None:
    optimizer = OPTIMIZERS.build("sgd", params=list(simsiam().param_groups()))
    assert [bool(group.get("constant_lr")) for group in optimizer.param_groups] == [False, True]


def test_the_defaults_are_the_heads_of_the_authors() -> None:
    """facebookresearch/simsiam, simsiam/builder.py: the last normalisation has no scale or shift."""
    method = SimSiam(SimSiam.Config(), backbone=tiny_backbone(), run=run_info())
    layers = [*method.head.get_submodule("layers").children()]
    assert [type(layer).__name__ for layer in layers] == [
        *["Linear", "BatchNorm1d", "ReLU"] * 2,
        *["Linear", "BatchNorm1d"],
    ]
    assert [layer.bias for layer in layers if isinstance(layer, nn.Linear)] == [None] * 3
    assert list(layers[-1].parameters()) == []
    bottleneck = method.predictor.get_submodule("layers.0")
    assert bottleneck.get_parameter("weight").shape == (512, 2048)


def test_a_predictor_of_another_length_is_refused() -> None:
    with pytest.raises(UserError, match=r"set method\.predictor\.output_dim="):
        simsiam("method.predictor.output_dim=7")
