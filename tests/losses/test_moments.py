"""Moments of embeddings against torch's own, and over ranks."""

import pytest
import torch
from torch import Tensor

from ssl_zoo import distributed
from ssl_zoo.losses.moments import (
    centred,
    cross_moment,
    n_images,
    off_diagonal_square,
    standardized,
)
from tests.distributed import run_on_ranks


def some_embeddings(v: int = 3, b: int = 6, d: int = 4) -> Tensor:
    return 3 * torch.randn(v, b, d, generator=torch.Generator().manual_seed(0)) + 5


def test_each_view_is_centred_by_itself() -> None:
    z = some_embeddings().double()
    torch.testing.assert_close(centred(z), torch.stack([view - view.mean(0) for view in z]))


def test_each_view_is_standardized_as_batch_normalisation_does() -> None:
    z = some_embeddings().double()
    norm = torch.nn.BatchNorm1d(4, affine=False, eps=1e-5).double()
    torch.testing.assert_close(standardized(z), torch.stack([norm(view) for view in z]))


def test_what_does_not_vary_becomes_zero_and_keeps_a_finite_gradient() -> None:
    z = torch.full((2, 5, 3), 7.0, requires_grad=True)
    out = standardized(z)
    (gradient,) = torch.autograd.grad(out.square().sum() + out[0, 0, 0], z)
    assert torch.equal(out, torch.zeros_like(out))
    assert gradient.isfinite().all()


def test_half_precision_becomes_float32_and_float64_stays() -> None:
    assert centred(some_embeddings().half()).dtype == torch.float32
    assert standardized(some_embeddings().double()).dtype == torch.float64


def test_off_diagonal_square_leaves_the_diagonal_out() -> None:
    assert off_diagonal_square(torch.tensor([[9.0, 2.0], [3.0, 9.0]])) == 4 + 9


def _on_a_rank(embeddings: Tensor) -> tuple[Tensor, Tensor]:
    """Returns a function of the moments, and its gradient for this rank's images."""
    mine = embeddings.chunk(distributed.world_size(), dim=1)[distributed.rank()]
    mine = mine.contiguous().requires_grad_()
    z = standardized(mine)
    moment = cross_moment(z[0], z[1]) / n_images(z)
    value = (moment * torch.arange(16.0).view(4, 4)).sum() + off_diagonal_square(moment)
    return value.detach(), torch.autograd.grad(value, mine)[0]


@pytest.mark.distributed
def test_two_ranks_equal_one_process_with_the_whole_batch() -> None:
    embeddings = some_embeddings().double()
    value, gradient = _on_a_rank(embeddings)
    ranks = run_on_ranks(_on_a_rank, 2, embeddings)
    for rank in ranks:
        torch.testing.assert_close(rank[0], value.detach())
    together = torch.cat([rank[1] for rank in ranks], dim=1) / 2  # as DDP averages
    torch.testing.assert_close(together, gradient)
