"""The coding rate against determinants, its extremes, and on two ranks."""

import math

import pytest
import torch
from torch import Tensor

from ssl_zoo import distributed
from ssl_zoo.losses.coding_rate import coding_rate, coding_rate_weight, largest_coding_rate
from tests.distributed import run_on_ranks

EPSILON = 0.05


def some_embeddings(v: int = 2, b: int = 6, d: int = 4) -> Tensor:
    return torch.randn(v, b, d, generator=torch.Generator().manual_seed(0)).double()


def slow(embeddings: Tensor) -> Tensor:
    rates = []
    for view in embeddings:
        unit = view / view.norm(dim=1, keepdim=True)
        n, d = unit.shape
        matrix = torch.eye(d).double() + d / (n * EPSILON) * unit.T @ unit
        rates.append(matrix.det().log() / 2)
    return torch.stack(rates)


def test_rate_and_gradient_are_those_of_the_determinant() -> None:
    z = some_embeddings().requires_grad_()
    found, expected = coding_rate(z, epsilon=EPSILON), slow(z)
    torch.testing.assert_close(found, expected)
    (gradient,), (wanted,) = (torch.autograd.grad(x.sum(), z) for x in (found, expected))
    torch.testing.assert_close(gradient, wanted)


def test_gradcheck() -> None:
    z = some_embeddings(2, 4, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: coding_rate(x, epsilon=EPSILON), z)


def test_equal_embeddings_have_the_smallest_rate() -> None:
    z = some_embeddings(1, 1).repeat(1, 5, 1)
    expected = math.log1p(4 / EPSILON) / 2
    assert float(coding_rate(z, epsilon=EPSILON)) == pytest.approx(expected)


@pytest.mark.parametrize(("count", "dim"), [(8, 4), (3, 4)], ids=["more_images", "fewer_images"])
def test_orthogonal_embeddings_have_the_largest_rate(count: int, dim: int) -> None:
    z = torch.eye(dim).double().repeat(2, 1)[:count][None]
    largest = largest_coding_rate(dim, count, epsilon=EPSILON)
    assert float(coding_rate(z, epsilon=EPSILON)) == pytest.approx(largest)
    assert float(coding_rate(some_embeddings(1, count, dim), epsilon=EPSILON)) < largest


def test_the_weight_is_gamma() -> None:
    assert coding_rate_weight(256, 1024) == pytest.approx((256 + 1024) / (256 * 1024))


def test_half_precision_is_computed_in_float32_under_autocast() -> None:
    z = some_embeddings().bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = coding_rate(z, epsilon=EPSILON)
    torch.testing.assert_close(found.double(), slow(z.double()), rtol=1e-5, atol=0)


def _gradient_on_a_rank(z: Tensor) -> tuple[Tensor, Tensor]:
    mine = z.chunk(distributed.world_size(), dim=1)[distributed.rank()]
    mine = mine.contiguous().requires_grad_()
    rate = coding_rate(mine, epsilon=EPSILON)
    return rate.detach(), torch.autograd.grad(rate.sum(), mine)[0]


@pytest.mark.distributed
def test_two_ranks_have_the_rate_and_gradient_of_the_whole_batch() -> None:
    rate, gradient = _gradient_on_a_rank(some_embeddings())
    ranks = run_on_ranks(_gradient_on_a_rank, 2, some_embeddings())
    for found, _ in ranks:
        torch.testing.assert_close(found, rate)
    together = torch.cat([own for _, own in ranks], dim=1) / 2  # as DDP averages
    torch.testing.assert_close(together, gradient)
