"""Numbers that show collapse, against their formulas."""

import math

import pytest
import torch

from ssl_zoo.evaluators.collapse import effective_rank, feature_std


def test_std_of_even_directions_is_1() -> None:
    torch.manual_seed(0)
    assert feature_std(torch.randn(20_000, 32)).item() == pytest.approx(1, abs=0.01)


def test_std_of_equal_directions_is_0() -> None:
    scales = torch.rand(50, 1) + 0.1
    assert feature_std(scales * torch.randn(1, 32)).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("shape", [(200, 30), (30, 200), (50, 50)])
def test_effective_rank_follows_rankme(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    features = torch.randn(shape) * torch.linspace(0.01, 1, shape[1]) + 0.3
    singular = torch.linalg.svdvals(features.double())
    shares = singular / singular.sum()  # Garrido et al., eq. 1 and 2, without their 1e-7
    rank = torch.exp(-(shares * shares.log()).sum())
    assert effective_rank(features).item() == pytest.approx(rank.item(), rel=1e-4)


@pytest.mark.parametrize("rank", [1, 4, 16])
def test_effective_rank_counts_equal_directions(rank: int) -> None:
    features = torch.eye(16)[torch.arange(64) % rank]
    assert effective_rank(features).item() == pytest.approx(rank, rel=1e-5)


def test_effective_rank_of_low_precision_is_finite() -> None:
    assert math.isfinite(effective_rank(100 * torch.ones(8, 4, dtype=torch.float16)).item())


def test_effective_rank_of_zeros_is_0_and_of_nan_is_nan() -> None:
    assert effective_rank(torch.zeros(8, 4)).item() == 0
    assert math.isnan(effective_rank(torch.full((8, 4), math.nan)).item())
