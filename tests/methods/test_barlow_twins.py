"""Barlow Twins: its loss from equations 1 and 2, coordinate by coordinate, and its rates."""

import pytest
import torch
from torch import Tensor

from ssl_zoo import distributed
from ssl_zoo.method import Batch
from ssl_zoo.methods.barlow_twins import BarlowTwins, BarlowTwinsLoss
from ssl_zoo.methods.barlow_twins.loss import BarlowTwinsSettings
from tests.distributed import run_on_ranks
from tests.small import batch, progress, run_info, small_method

LAMBDA = 0.02
EPS = 1e-5
"""What torch's batch normalisation, which the authors' code uses, adds to variances."""


def pair_loss(one: Tensor, two: Tensor) -> Tensor:
    """Equation 1 for embeddings `(B, d)` of two views, in float64, one correlation at a time."""
    one, two = one.double(), two.double()
    n_images, dim = one.shape
    a, b = one - one.mean(0), two - two.mean(0)
    loss = torch.zeros((), dtype=torch.float64)
    for i in range(dim):
        for j in range(dim):
            scale = (a[:, i].square().mean() + EPS) * (b[:, j].square().mean() + EPS)
            c = (a[:, i] * b[:, j]).sum() / n_images / scale.sqrt()
            loss = loss + ((1 - c) ** 2 if i == j else LAMBDA * c**2)
    return loss


def some_embeddings(v: int = 2, b: int = 6, d: int = 4) -> Tensor:
    return 2 * torch.randn(v, b, d, generator=torch.Generator().manual_seed(0)) + 1


def the_loss() -> BarlowTwinsLoss:
    return BarlowTwinsLoss(BarlowTwinsSettings(redundancy=LAMBDA))


def test_two_views_are_equation_1_with_its_gradient() -> None:
    embeddings = some_embeddings().requires_grad_()
    exact = embeddings.detach().double().requires_grad_()
    loss, expected = the_loss()(embeddings, 2), pair_loss(exact[0], exact[1])
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=0)
    (gradient,) = torch.autograd.grad(loss, embeddings)
    (expected_gradient,) = torch.autograd.grad(expected, exact)
    torch.testing.assert_close(gradient.double(), expected_gradient, rtol=1e-4, atol=1e-6)


def test_multi_crop_is_the_mean_over_pairs_with_a_global_view() -> None:
    z = some_embeddings(4).double()
    pairs = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3)]
    expected = torch.stack([pair_loss(z[one], z[two]) for one, two in pairs]).mean()
    torch.testing.assert_close(the_loss()(z, 2), expected)


def test_gradcheck() -> None:
    embeddings = some_embeddings(3, 4, 3).double().requires_grad_()
    loss = the_loss()
    assert torch.autograd.gradcheck(lambda z: loss(z, 2), embeddings)


def test_equal_views_of_uncorrelated_coordinates_have_no_loss() -> None:
    view = 1e3 * torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]).double()
    assert float(the_loss()(torch.stack([view, view]), 2)) == pytest.approx(0, abs=1e-10)


def test_a_coordinate_twice_costs_its_redundancy() -> None:
    column = torch.tensor([[1.0], [-1.0], [2.0], [-2.0]]).double() * 1e3
    view = column.expand(-1, 2)
    assert float(the_loss()(torch.stack([view, view]), 2)) == pytest.approx(2 * LAMBDA, abs=1e-9)


def test_scale_and_shift_of_a_view_do_not_matter() -> None:
    z = 100 * some_embeddings().double()
    other = torch.stack([z[0], 3 * z[1] + 50])
    torch.testing.assert_close(the_loss()(other, 2), the_loss()(z, 2), rtol=1e-6, atol=0)


@pytest.mark.parametrize("n_images", [1, 5], ids=["one_image", "duplicates"])
def test_without_variance_nothing_correlates_and_gradients_stay_finite(n_images: int) -> None:
    embeddings = some_embeddings(2, 1).repeat(1, n_images, 1).requires_grad_()
    loss = the_loss()(embeddings, 2)
    (gradient,) = torch.autograd.grad(loss, embeddings)
    assert float(loss.detach()) == pytest.approx(4, abs=1e-3)  # d times (1 - 0) ** 2
    assert gradient.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32_under_autocast(dtype: torch.dtype) -> None:
    z = some_embeddings().to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = the_loss()(z, 2)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), pair_loss(z[0], z[1]), rtol=1e-5, atol=0)


def _gradient_on_a_rank(embeddings: Tensor) -> tuple[Tensor, Tensor]:
    mine = embeddings.chunk(distributed.world_size(), dim=1)[distributed.rank()]
    mine = mine.contiguous().requires_grad_()
    loss = the_loss()(mine, 2)
    return loss.detach(), torch.autograd.grad(loss, mine)[0]


@pytest.mark.distributed
def test_two_ranks_have_the_correlations_of_the_whole_batch() -> None:
    embeddings = some_embeddings(3).double()
    loss, gradient = _gradient_on_a_rank(embeddings)
    ranks = run_on_ranks(_gradient_on_a_rank, 2, embeddings)
    for rank in ranks:
        torch.testing.assert_close(rank[0], loss)
    together = torch.cat([rank[1] for rank in ranks], dim=1) / 2  # as DDP averages
    torch.testing.assert_close(together, gradient)


def barlow_twins(*overrides: str) -> BarlowTwins:
    torch.manual_seed(0)
    method = small_method("barlow_twins", *overrides, run=run_info(400))
    assert isinstance(method, BarlowTwins)
    return method


def test_the_method_has_the_loss_of_its_embeddings() -> None:
    method = barlow_twins(f"method.redundancy={LAMBDA}")
    views = batch(counts=((32, 2),)).views
    loss = method(Batch(views, torch.arange(8)), progress()).loss.detach()
    with torch.no_grad():
        z = method.head(method.backbone(views[0].flatten(0, 1))).chunk(2)
    torch.testing.assert_close(loss.double(), pair_loss(z[0], z[1]), rtol=1e-4, atol=0)


def test_biases_and_normalisation_layers_have_the_smaller_rate() -> None:
    method = barlow_twins("method.bias_lr_scale=0.024")
    weights, others = method.param_groups()
    assert "lr_scale" not in weights
    assert others["lr_scale"] == 0.024
    assert {p.ndim for p in others["params"]} == {1}
    assert len(weights["params"]) + len(others["params"]) == len(list(method.parameters()))
    assert all(p.ndim > 1 for p in weights["params"])
