"""VICReg: its three terms from the paper's equations, written out, alone and over ranks."""

import pytest
import torch
from torch import Tensor

from ssl_zoo import distributed
from ssl_zoo.method import Batch
from ssl_zoo.methods.vicreg import VICReg, VICRegLoss
from ssl_zoo.methods.vicreg.loss import VICRegSettings, vicreg_terms
from tests.distributed import run_on_ranks
from tests.small import batch, progress, run_info, small_method

Terms = tuple[Tensor, Tensor, Tensor]


def variance(view: Tensor) -> Tensor:
    """Equations 1 and 2: gamma is 1, epsilon 1e-4, the variance unbiased."""
    mean = view.sum(0) / len(view)
    terms = []
    for j in range(view.shape[1]):
        squares = torch.stack([(row[j] - mean[j]) ** 2 for row in view]).sum()
        deviation = (squares / (len(view) - 1) + 1e-4).sqrt()
        terms.append(torch.clamp(1 - deviation, min=0))
    return torch.stack(terms).mean()


def covariance(view: Tensor) -> Tensor:
    """Equations 3 and 4."""
    mean, dim = view.sum(0) / len(view), view.shape[1]
    outer = [torch.outer(row - mean, row - mean) for row in view]
    matrix = torch.stack(outer).sum(0) / (len(view) - 1)
    return (
        torch.stack([matrix[i, j] ** 2 for i in range(dim) for j in range(dim) if i != j]).sum()
        / dim
    )


def pair_terms(one: Tensor, two: Tensor) -> Terms:
    """Equations 2, 4 and 5 in float64, with the factors of main_vicreg.py."""
    one, two = one.double(), two.double()
    distances = torch.stack([(a - b) @ (a - b) for a, b in zip(one, two, strict=True)])
    return (
        distances.mean() / one.shape[1],
        (variance(one) + variance(two)) / 2,
        covariance(one) + covariance(two),
    )


def pair_loss(one: Tensor, two: Tensor) -> Tensor:
    """Equation 6 with the weights of section 4.2."""
    s, v, c = pair_terms(one, two)
    return 25 * s + 25 * v + c


def some_embeddings(v: int = 2, b: int = 6, d: int = 4) -> Tensor:
    """Coordinates of small and of large deviation: some within the hinge, some beyond it."""
    scale = torch.linspace(0.2, 2.5, d)
    return scale * torch.randn(v, b, d, generator=torch.Generator().manual_seed(0)) + 1


def the_loss() -> VICRegLoss:
    return VICRegLoss(VICRegSettings())


def test_two_views_are_equation_6_with_its_gradient() -> None:
    embeddings = some_embeddings().requires_grad_()
    exact = embeddings.detach().double().requires_grad_()
    loss, expected = the_loss()(embeddings, 2), pair_loss(exact[0], exact[1])
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=0)
    (gradient,) = torch.autograd.grad(loss, embeddings)
    (expected_gradient,) = torch.autograd.grad(expected, exact)
    torch.testing.assert_close(gradient.double(), expected_gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("term", range(3), ids=["invariance", "variance", "covariance"])
def test_each_term_is_its_equation(term: int) -> None:
    z = some_embeddings().double()
    torch.testing.assert_close(vicreg_terms(z, 2)[term], pair_terms(z[0], z[1])[term])


def test_multi_crop_is_the_mean_over_pairs_with_a_global_view() -> None:
    z = some_embeddings(4).double()
    pairs = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3)]
    expected = torch.stack([pair_loss(z[one], z[two]) for one, two in pairs]).mean()
    torch.testing.assert_close(the_loss()(z, 2), expected)


def test_gradcheck() -> None:
    embeddings = some_embeddings(3, 4, 3).double().requires_grad_()
    loss = the_loss()
    assert torch.autograd.gradcheck(lambda z: loss(z, 2), embeddings)


def test_equal_views_of_uncorrelated_coordinates_that_vary_enough_have_no_loss() -> None:
    view = 2 * torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert the_loss()(torch.stack([view, view]), 2) == 0


@pytest.mark.parametrize("n_images", [1, 5], ids=["one_image", "duplicates"])
def test_without_variance_the_hinge_is_full_and_gradients_stay_finite(n_images: int) -> None:
    embeddings = some_embeddings(2, 1).repeat(1, n_images, 1).requires_grad_()
    terms = vicreg_terms(embeddings, 2)
    (gradient,) = torch.autograd.grad(the_loss().weigh(terms), embeddings)
    assert float(terms.variance.detach()) == pytest.approx(1 - 1e-4**0.5, abs=1e-5)
    assert float(terms.covariance.detach()) == pytest.approx(0, abs=1e-9)
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
def test_two_ranks_have_the_moments_of_the_whole_batch() -> None:
    embeddings = some_embeddings(3).double()
    loss, gradient = _gradient_on_a_rank(embeddings)
    ranks = run_on_ranks(_gradient_on_a_rank, 2, embeddings)
    mean_loss = torch.stack([rank[0] for rank in ranks]).mean()
    torch.testing.assert_close(mean_loss, loss)
    together = torch.cat([rank[1] for rank in ranks], dim=1) / 2  # as DDP averages
    torch.testing.assert_close(together, gradient)


def test_the_method_has_the_loss_of_its_embeddings() -> None:
    torch.manual_seed(0)
    method = small_method("vicreg", run=run_info(400))
    assert isinstance(method, VICReg)
    views = batch(counts=((32, 2),)).views
    output = method(Batch(views, torch.arange(8)), progress())
    with torch.no_grad():
        z = method.head(method.backbone(views[0].flatten(0, 1))).chunk(2)
    torch.testing.assert_close(
        output.loss.detach().double(), pair_loss(z[0], z[1]), rtol=1e-4, atol=0
    )
