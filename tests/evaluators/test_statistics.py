import numpy as np
import pytest
from scipy import stats

from ssl_zoo.evaluators.statistics import bootstrap_interval, crossed_test, holm, rank_intervals


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


def test_holm_rejects_what_the_step_down_procedure_rejects() -> None:
    """Holm (1979): compare the smallest p-value with level / M, the next with level / (M - 1), and so on,
    and stop at the first that is larger."""
    generator = np.random.default_rng(0)
    for n in (1, 2, 6, 15):
        p = generator.uniform(size=n) ** 3
        corrected = np.array(holm(p))
        for level in (0.01, 0.05, 0.2, 0.7):
            rejected = np.zeros(n, dtype=bool)
            for place, index in enumerate(np.argsort(p)):
                if p[index] > level / (n - place):
                    break
                rejected[index] = True
            assert (rejected == (corrected <= level)).all()


def test_holm_of_known_values() -> None:
    # By hand: 4 * 0.01; then 3 * 0.02; 2 * 0.03 = 0.06 keeps the order; 0.04 does as well.
    assert holm([0.02, 0.01, 0.04, 0.03]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_one_seed_is_a_paired_t_test() -> None:
    generator = np.random.default_rng(1)
    ours, theirs = generator.normal(0.2, 1, (2, 50))
    difference, interval, p = crossed_test(ours, theirs)
    found = stats.ttest_rel(ours, theirs)
    assert difference == pytest.approx((ours - theirs).mean())
    assert p == pytest.approx(found.pvalue)
    assert interval == pytest.approx(tuple(found.confidence_interval(0.95)))


def test_seeds_that_differ_alike_on_all_images_are_a_test_of_welch() -> None:
    generator = np.random.default_rng(2)
    images = generator.normal(size=40)
    one, other = generator.normal(1, 1, 4), generator.normal(0, 2, 3)
    difference, interval, p = crossed_test(one[:, None] + images, other[:, None] + images)
    found = stats.ttest_ind(one, other, equal_var=False)
    assert difference == pytest.approx(one.mean() - other.mean())
    assert p == pytest.approx(found.pvalue)
    assert interval == pytest.approx(tuple(found.confidence_interval(0.95)))


def test_equal_sides_do_not_differ() -> None:
    hits = np.ones((2, 10))
    assert crossed_test(hits, hits) == (0.0, (0.0, 0.0), 1.0)
    assert crossed_test(hits, 0 * hits)[2] == 0.0
    with pytest.raises(ValueError, match="10 and 9 images cannot be paired"):
        crossed_test(hits, hits[:, 1:])


def test_about_one_in_twenty_equal_methods_is_called_different() -> None:
    """Seeds and images both vary; the test may be too careful, but not the opposite."""
    generator = np.random.default_rng(3)
    wrong = 0
    for _ in range(400):
        images = generator.normal(size=100)
        sides = [
            images + generator.normal(0, 0.1, (3, 1)) + generator.normal(0, 0.5, (3, 100))
            for _ in range(2)
        ]
        wrong += crossed_test(*sides)[2] < 0.05
    assert wrong <= 400 * 0.075  # two and a half standard errors above 5 %


def test_ranks_are_as_sure_as_the_gaps_between_scores() -> None:
    generator = np.random.default_rng(4)
    images = generator.normal(size=200)
    far = images + 3
    near = [images + 0.01 * generator.normal(size=(2, 200)) for _ in range(2)]
    assert rank_intervals([far, *near], seed=0) == [(1, 1), (2, 3), (2, 3)]
    assert rank_intervals([far, far], seed=0) == [(1, 1), (1, 1)]


def test_the_ranks_of_two_are_as_often_swapped_as_by_a_sign_test() -> None:
    """Of two contenders that differ by 0.5 on one image in four, a resample swaps them never."""
    one, other = np.zeros(100), np.zeros(100)
    one[:25] = 1
    assert rank_intervals([one, other], seed=0) == [(1, 1), (2, 2)]
    other[25:49] = 1  # 25 against 24: nearly even
    assert rank_intervals([one, other], seed=0) == [(1, 2), (1, 2)]
