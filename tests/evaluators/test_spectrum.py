"""Measures of the spectrum of features, against other arithmetic in float64."""

import numpy as np
import pytest
import scipy.linalg
import torch
from numpy.typing import NDArray

from ssl_zoo.evaluators.collapse import effective_rank
from ssl_zoo.evaluators.health import ranks_of
from ssl_zoo.evaluators.spectrum import alpha_req, lidar_rank

Doubles = NDArray[np.float64]


def decaying(alpha: float, *, n: int, d: int, seed: int = 0) -> Doubles:
    """Returns features whose covariance has exactly the eigenvalues n^-alpha."""
    draw = np.random.default_rng(seed)
    noise = draw.standard_normal((n, d))
    left = np.linalg.qr(noise - noise.mean(axis=0))[0]
    right = np.linalg.qr(draw.standard_normal((d, d)))[0]
    found: Doubles = left * np.arange(1, d + 1) ** (-alpha / 2) @ right
    return found + 3.0  # the mean does not count


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 2.5])
@pytest.mark.parametrize(("n", "d"), [(300, 60), (300, 150)])
def test_alpha_is_the_exponent_of_the_eigenvalues(alpha: float, n: int, d: int) -> None:
    assert alpha_req(torch.from_numpy(decaying(alpha, n=n, d=d))) == pytest.approx(alpha, abs=1e-6)


@pytest.mark.parametrize("shape", [(400, 128), (60, 300), (200, 20)])
def test_alpha_is_the_weighted_fit_of_the_authors(shape: tuple[int, int]) -> None:
    """Against arnab39/reptrix, reptrix/alpha.py, whose normal equations are solved by numpy's polyfit."""
    values = np.random.default_rng(1).standard_normal(shape) * np.arange(1, shape[1] + 1) ** -0.4
    eigenvalues = np.sort(np.linalg.eigvalsh(np.cov(values.T)))[::-1][
        : min(shape[0] - 1, shape[1])
    ]
    ranks = np.arange(6, min(100, len(eigenvalues)) + 1)
    slope = np.polyfit(np.log(ranks), np.log(eigenvalues[ranks - 1]), 1, w=ranks**-0.5)[0]
    assert alpha_req(torch.from_numpy(values)) == pytest.approx(-slope, rel=1e-9)


def test_too_few_eigenvalues_have_no_exponent() -> None:
    values = np.random.default_rng(0).standard_normal((100, 15)).astype(np.float32)
    assert "alpha_req" in ranks_of(values)
    assert "alpha_req" not in ranks_of(values[:, :14])
    assert alpha_req(torch.ones(50, 40)) is None


def views(
    n: int = 40, q: int = 6, d: int = 12, *, signal: int = 4, noise: float = 0.1, seed: int = 0
) -> Doubles:
    """Returns features of views `(N, Q, D)`: images differ in `signal` directions, views in all."""
    draw = np.random.default_rng(seed)
    images = np.zeros((n, 1, d))
    images[..., :signal] = draw.standard_normal((n, 1, signal))
    found: Doubles = images + noise * draw.standard_normal((n, q, d))
    return found


def rank_of(features: Doubles, *, delta: float = 1e-4) -> float:
    n, q, _ = features.shape
    means = features.mean(axis=1)
    away = (features - means[:, None]).reshape(n * q, -1)
    within = torch.from_numpy(away.T @ away / (n * (q - 1)))
    return lidar_rank(torch.from_numpy(means), within, delta=delta)


def reference(features: Doubles, *, delta: float) -> float:
    """Returns LiDAR by the equations of the paper, with the inverse square root of a matrix."""
    n, q, d = features.shape
    means, whole = features.mean(axis=1), features.mean(axis=(0, 1))
    between = sum(np.outer(mean - whole, mean - whole) for mean in means) / (n - 1)
    within = delta * np.eye(d)
    for image, mean in zip(features, means, strict=True):
        for view in image:
            within = within + np.outer(view - mean, view - mean) / (n * (q - 1))
    root = np.linalg.inv(scipy.linalg.sqrtm(within).real)
    shares = np.abs(np.linalg.eigvals(root @ between @ root).real)
    shares = shares / shares.sum()
    return float(np.exp(-(shares * np.log(shares + 1e-300)).sum()))


@pytest.mark.parametrize("delta", [1e-4, 0.1])
@pytest.mark.parametrize("seed", [0, 1])
def test_lidar_is_that_of_the_paper(delta: float, seed: int) -> None:
    features = views(seed=seed, noise=0.5)
    found = rank_of(features, delta=delta)
    assert found == pytest.approx(reference(features, delta=delta), rel=1e-9)


def test_lidar_counts_the_directions_that_tell_images_apart() -> None:
    for signal in (1, 3, 8):
        assert rank_of(views(n=4000, signal=signal, noise=0.01)) == pytest.approx(signal, rel=0.05)


def test_noise_of_views_raises_rankme_but_not_lidar() -> None:
    quiet, noisy = views(n=400, d=60), views(n=400, d=60, noise=0.8)
    before, after = (float(effective_rank(torch.from_numpy(one[:, 0]))) for one in (quiet, noisy))
    assert after > 1.5 * before
    equal = noisy.copy()
    equal[..., :4] = quiet[..., :4] * 8  # as clear as before against the noise
    assert rank_of(equal) == pytest.approx(rank_of(quiet), rel=0.3)


def test_equal_images_have_rank_0() -> None:
    assert lidar_rank(torch.ones(10, 3), torch.eye(3), delta=1e-4) == 0.0
