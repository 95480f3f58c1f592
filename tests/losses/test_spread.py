"""KoLeo: its value and gradient one pair at a time, and over ranks."""

import math

import pytest
import torch
from torch import Tensor

from ssl_zoo import distributed
from ssl_zoo.losses.spread import koleo
from tests.distributed import run_on_ranks


def slow(embeddings: Tensor) -> Tensor:
    unit = [row / row.norm() for row in embeddings]
    terms = []
    for i, one in enumerate(unit):
        distances = [(one - other).norm() for j, other in enumerate(unit) if j != i]
        terms.append(-torch.stack(distances).min().log())
    return torch.stack(terms).mean()


def test_value_and_gradient_equal_a_slow_reference() -> None:
    torch.manual_seed(0)
    x = torch.randn(9, 5, dtype=torch.float64, requires_grad=True)
    expected = slow(x)
    found = koleo(x)
    assert float(found.detach()) == pytest.approx(
        float(expected.detach()), abs=1e-6
    )  # epsilon of 1e-8 in distances
    (gradient,), (wanted,) = (torch.autograd.grad(value, x) for value in (found, expected))
    torch.testing.assert_close(gradient, wanted, rtol=1e-6, atol=1e-8)


def test_opposite_points_and_a_square_have_their_closed_forms() -> None:
    assert float(koleo(torch.tensor([[2.0, 0.0], [-1.0, 0.0]]))) == pytest.approx(-math.log(2))
    square = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    assert float(koleo(square)) == pytest.approx(-math.log(math.sqrt(2)))


def test_duplicates_are_finite() -> None:
    x = torch.ones(4, 3, requires_grad=True)
    value = koleo(x)
    (gradient,) = torch.autograd.grad(value, x)
    assert math.isfinite(float(value.detach()))
    assert gradient.isfinite().all()


def test_one_embedding_has_no_neighbour_and_costs_nothing() -> None:
    x = torch.ones(1, 3, requires_grad=True)
    value = koleo(x)
    assert float(value.detach()) == 0
    assert torch.autograd.grad(value, x)[0].isfinite().all()


def _on_rank() -> tuple[float, list[float]]:
    x = _everyone().requires_grad_()
    rank, world_size = distributed.rank(), distributed.world_size()
    size = len(x) // world_size
    value = koleo(x[rank * size : (rank + 1) * size])
    (gradient,) = torch.autograd.grad(value, x)
    mean = distributed.all_reduce(torch.stack([value.detach()])) / world_size
    return float(mean), (distributed.all_reduce(gradient) / world_size).flatten().tolist()


def _everyone() -> Tensor:
    return torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.distributed
def test_two_ranks_equal_one() -> None:
    x = _everyone().requires_grad_()
    value = koleo(x)
    (gradient,) = torch.autograd.grad(value, x)
    for mean, found in run_on_ranks(_on_rank, 2):
        assert mean == pytest.approx(float(value.detach()), abs=1e-12)
        assert found == pytest.approx(gradient.flatten().tolist(), abs=1e-12)
