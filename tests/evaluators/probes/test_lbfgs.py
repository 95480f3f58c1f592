import pytest
import torch
from torch import Tensor

from ssl_zoo.evaluators.probes.lbfgs import minimise


def bowl(point: Tensor) -> tuple[float, Tensor]:
    """A quadratic of curvatures 0.01 to 1 with its lowest point at 1, 2, ..."""
    curvatures = torch.logspace(-2, 0, len(point), dtype=torch.float64)
    away = point - torch.arange(1, len(point) + 1)
    return float((curvatures * away.square()).sum() / 2), curvatures * away


def test_the_lowest_point_is_found() -> None:
    found = minimise(
        bowl, torch.zeros(20, dtype=torch.float64), tolerance=1e-10, max_iterations=200
    )
    assert found.converged
    assert found.gradient_norm <= 1e-10
    torch.testing.assert_close(found.point, torch.arange(1, 21).double(), rtol=0, atol=1e-7)


def test_past_steps_make_it_faster_than_the_gradient() -> None:
    """Steps along the gradient shrink the flattest direction by 1 % each: 1e-10 takes over 2000."""
    found = minimise(
        bowl, torch.zeros(20, dtype=torch.float64), tolerance=1e-10, max_iterations=200
    )
    assert found.iterations < 100


def test_a_step_that_is_too_long_is_shortened() -> None:
    def steep(point: Tensor) -> tuple[float, Tensor]:
        return float(point.pow(4).sum()), 4 * point.pow(3)

    found = minimise(steep, torch.full((3,), 10.0).double(), tolerance=1e-9, max_iterations=200)
    assert found.converged
    assert float(found.point.abs().max()) < 1e-2


def test_too_few_steps_are_said_to_be_too_few() -> None:
    found = minimise(bowl, torch.zeros(20, dtype=torch.float64), tolerance=1e-10, max_iterations=3)
    assert (found.converged, found.iterations) == (False, 3)
    assert found.gradient_norm == pytest.approx(float(bowl(found.point)[1].norm()))


def test_rounding_ends_it_without_convergence() -> None:
    def coarse(point: Tensor) -> tuple[float, Tensor]:
        value, gradient = bowl(point)
        return float(round(value, 3)), gradient + 1e-3

    found = minimise(
        coarse, torch.zeros(5, dtype=torch.float64), tolerance=1e-9, max_iterations=999
    )
    assert not found.converged
    assert found.iterations < 999


def test_it_starts_at_the_given_weights() -> None:
    found = minimise(bowl, torch.arange(1, 6).double(), tolerance=1e-10, max_iterations=10)
    assert found.iterations == 0
