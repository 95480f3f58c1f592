import numpy as np
import pytest
from scipy import stats

from ssl_zoo.evaluators.statistics import bootstrap_interval


def test_hits_and_misses_have_the_binomial_quantiles() -> None:
    hits = np.arange(500) < 430
    low, high = bootstrap_interval(hits, seed=0, n_resamples=100_000)
    expected = stats.binom.ppf([0.025, 0.975], 500, 0.86) / 500
    assert (low, high) == pytest.approx(tuple(expected), abs=0.0021)  # one image


def test_numbers_have_the_interval_of_plain_resampling() -> None:
    values = np.random.default_rng(0).exponential(size=80)
    low, high = bootstrap_interval(values, seed=0, n_resamples=20_000)
    plain = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert (low, high) == pytest.approx((plain.low, plain.high), rel=0.02)


def test_about_95_of_100_intervals_cover_the_truth() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for seed in range(400):
        low, high = bootstrap_interval(generator.random(200) < 0.8, seed=seed, n_resamples=500)
        covered += low <= 0.8 <= high
    assert 0.91 <= covered / 400 <= 0.98  # 3 standard errors around 0.945


def test_equal_seeds_give_equal_intervals() -> None:
    values = np.random.default_rng(0).standard_normal(50)
    assert bootstrap_interval(values, seed=1) == bootstrap_interval(values, seed=1)
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values, seed=2)


@pytest.mark.parametrize("n", [1, 10, 1000])
def test_only_hits_have_the_exact_binomial_interval(n: int) -> None:
    exact = stats.binomtest(n, n).proportion_ci(method="exact")
    assert bootstrap_interval(np.ones(n), seed=0) == pytest.approx((exact.low, exact.high))
    exact = stats.binomtest(0, n).proportion_ci(method="exact")
    assert bootstrap_interval(np.zeros(n), seed=0) == pytest.approx((exact.low, exact.high))


def test_equal_numbers_have_no_spread() -> None:
    assert bootstrap_interval([3.0, 3.0], seed=0) == (3.0, 3.0)


@pytest.mark.parametrize("values", [[], [1.0, float("nan")]])
def test_what_has_no_mean_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="needs finite values"):
        bootstrap_interval(values, seed=0)
