"""NT-Xent against loops over SimCLR's equation 1, and over ranks."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ssl_zoo import distributed
from ssl_zoo.losses.nt_xent import NTXentLoss, NTXentSettings, nt_xent
from tests.distributed import run_on_ranks

T = 0.2


def simclr(embeddings: Tensor, temperature: float) -> Tensor:
    """SimCLR, equation 1, for the 2N views of N images, in float64."""
    n = embeddings.shape[1]
    z = normalize(embeddings.double().flatten(0, 1), dim=1)
    terms = []
    for i in range(2 * n):
        j = (i + n) % (2 * n)
        similarities = torch.stack([z[i] @ z[k] / temperature for k in range(2 * n) if k != i])
        terms.append(torch.logsumexp(similarities, 0) - z[i] @ z[j] / temperature)
    return torch.stack(terms).mean()


def multi_crop(embeddings: Tensor, n_global: int, temperature: float) -> Tensor:
    """Every (view, other global view) pair of an image, against the other images' global views."""
    z = normalize(embeddings.double(), dim=2)
    n_views, n_images, _ = z.shape
    terms = []
    for b in range(n_images):
        for v in range(n_views):
            negatives = [
                z[v, b] @ z[g, other] / temperature
                for other in range(n_images)
                if other != b
                for g in range(n_global)
            ]
            for i in range(n_global):
                if i != v:
                    positive = z[v, b] @ z[i, b] / temperature
                    terms.append(
                        torch.logsumexp(torch.stack([positive, *negatives]), 0) - positive
                    )
    return torch.stack(terms).mean()


def some_embeddings(v: int = 2, b: int = 6, d: int = 4, *, seed: int = 0) -> Tensor:
    return torch.randn(v, b, d, generator=torch.Generator().manual_seed(seed))


def test_the_module_takes_its_temperature_from_its_settings() -> None:
    loss = NTXentLoss(NTXentSettings(temperature=0.5))
    embeddings = some_embeddings()
    assert torch.equal(loss(embeddings, 2), nt_xent(embeddings, 2, temperature=0.5))


def test_two_views_are_simclr() -> None:
    embeddings = some_embeddings().requires_grad_()
    exact = embeddings.detach().double().requires_grad_()
    loss, expected = nt_xent(embeddings, 2, temperature=T), simclr(exact, T)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=0)
    (gradient,) = torch.autograd.grad(loss, embeddings)
    (expected_gradient,) = torch.autograd.grad(expected, exact)
    torch.testing.assert_close(gradient.double(), expected_gradient, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("n_views", "n_global"), [(2, 2), (5, 2), (3, 3), (4, 1)])
def test_multi_crop_takes_all_pairs_with_a_global_view(n_views: int, n_global: int) -> None:
    embeddings = some_embeddings(n_views)
    loss = nt_xent(embeddings.double(), n_global, temperature=T)
    torch.testing.assert_close(loss, multi_crop(embeddings, n_global, T))


def test_gradcheck() -> None:
    embeddings = some_embeddings(4, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: nt_xent(z, 2, temperature=T), embeddings)


def test_length_of_embeddings_does_not_matter() -> None:
    embeddings = some_embeddings()
    loss = nt_xent(7 * embeddings, 2, temperature=T)
    torch.testing.assert_close(loss, nt_xent(embeddings, 2, temperature=T))


@pytest.mark.parametrize(
    "embeddings",
    [
        some_embeddings(3, 1),
        some_embeddings(3, 1).repeat(1, 5, 1),
        torch.zeros(3, 5, 4),
        1e4 * some_embeddings(3),
    ],
    ids=["one_image", "duplicates", "zeros", "large"],
)
@pytest.mark.parametrize("temperature", [0.01, 10])
def test_degenerate_batches_stay_finite(embeddings: Tensor, temperature: float) -> None:
    embeddings = embeddings.clone().requires_grad_()
    loss = nt_xent(embeddings, 2, temperature=temperature)
    (gradient,) = torch.autograd.grad(loss, embeddings)
    assert loss.isfinite()
    assert gradient.isfinite().all()


def test_one_image_has_nothing_to_tell_apart() -> None:
    assert nt_xent(some_embeddings(3, 1), 2, temperature=T).item() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32_under_autocast(dtype: torch.dtype) -> None:
    embeddings = some_embeddings().to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = nt_xent(embeddings, 2, temperature=T)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), simclr(embeddings, T), rtol=1e-6, atol=0)


@pytest.mark.parametrize(("n_views", "n_global"), [(1, 1), (2, 0), (2, 3)])
def test_views_without_pairs_are_refused(n_views: int, n_global: int) -> None:
    with pytest.raises(ValueError, match=f"n_global of {n_global} and {n_views} views"):
        nt_xent(some_embeddings(n_views), n_global, temperature=T)


def _gradient_on_a_rank(embeddings: Tensor) -> tuple[Tensor, Tensor]:
    mine = embeddings.chunk(distributed.world_size(), dim=1)[distributed.rank()]
    mine = mine.contiguous().requires_grad_()
    loss = nt_xent(mine, 2, temperature=T)
    return loss.detach(), torch.autograd.grad(loss, mine)[0]


@pytest.mark.distributed
def test_two_ranks_equal_one_process_with_the_whole_batch() -> None:
    embeddings = some_embeddings(4)
    loss, gradient = _gradient_on_a_rank(embeddings)
    ranks = run_on_ranks(_gradient_on_a_rank, 2, embeddings)
    mean_loss = torch.stack([rank[0] for rank in ranks]).mean()
    torch.testing.assert_close(mean_loss, loss, rtol=2e-6, atol=0)
    together = torch.cat([rank[1] for rank in ranks], dim=1) / 2  # as DDP averages
    torch.testing.assert_close(together, gradient, rtol=1e-5, atol=1e-7)
