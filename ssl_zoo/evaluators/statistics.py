"""Confidence intervals and paired tests."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

_BLOCK = 1 << 22  # counts in memory at a time


def bootstrap_interval(
    values: ArrayLike, *, seed: int, n_resamples: int = 2000, confidence: float = 0.95
) -> tuple[float, float]:
    """Returns the percentile bootstrap interval of a mean (Efron, 1979).

    A resample is drawn as counts of the distinct values, which has the same distribution as
    drawing values one by one and is cheap if there are few, as for hits and misses. If all values
    are 1 or all are 0, resampling never varies; these get the exact binomial interval of Clopper
    and Pearson (1934).

    Args:
        values: numbers or booleans, `(N,)`.
        seed: equal seeds give equal intervals.
        confidence: probability that the interval covers the mean, in (0, 1).

    Raises:
        ValueError: there are no values, or they are not finite.
    """
    sample = np.asarray(values, dtype=np.float64).ravel()
    if not len(sample) or not np.isfinite(sample).all():
        raise ValueError(
            f"an interval needs finite values, not {len(sample)} values with NaN or none at all"
        )
    distinct, counts = np.unique(sample, return_counts=True)
    tail = (1 - confidence) / 2
    if len(distinct) == 1:
        return _constant_interval(float(distinct[0]), len(sample), tail)
    means = _resampled_means(distinct, counts, n_resamples, np.random.default_rng(seed))
    low, high = np.quantile(means, (tail, 1 - tail))
    return float(low), float(high)


def _constant_interval(value: float, n: int, tail: float) -> tuple[float, float]:
    if value == 1:
        return tail ** (1 / n), 1.0
    if value == 0:
        return 0.0, 1 - tail ** (1 / n)
    return value, value


def _resampled_means(
    distinct: NDArray[np.float64],
    counts: NDArray[np.int64],
    n_resamples: int,
    generator: np.random.Generator,
) -> NDArray[np.float64]:
    n = int(counts.sum())
    step = max(1, _BLOCK // len(distinct))
    sizes = [min(step, n_resamples - start) for start in range(0, n_resamples, step)]
    draws = (generator.multinomial(n, counts / n, size=size) for size in sizes)
    return np.concatenate([drawn @ distinct / n for drawn in draws])


def paired_interval(
    ours: ArrayLike,
    theirs: ArrayLike,
    *,
    seed: int,
    n_resamples: int = 2000,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Returns the percentile bootstrap interval of the mean difference on the same images.

    Pairs are resampled, so images that are hard for both do not widen the interval (Efron, 1979).

    Args:
        ours: numbers or booleans, `(N,)`.
        theirs: values of the same images, `(N,)`.
        seed: equal seeds give equal intervals.
        confidence: probability that the interval covers the difference, in (0, 1).

    Raises:
        ValueError: there are no values, they are not finite, or their numbers differ.
    """
    one, other = (np.asarray(values, dtype=np.float64).ravel() for values in (ours, theirs))
    if len(one) != len(other):
        raise ValueError(f"{len(one)} and {len(other)} values cannot be paired")
    changes = one - other
    if len(changes) and (changes == changes[0]).all():  # resampling never varies
        return float(changes[0]), float(changes[0])
    return bootstrap_interval(changes, seed=seed, n_resamples=n_resamples, confidence=confidence)


def mcnemar(only_ours: int, only_theirs: int) -> float:
    """Returns the exact two-sided p-value of McNemar's test (1947).

    If two classifiers are equally good, each image that only one of them gets right is equally
    likely to be either's.

    Args:
        only_ours: number of images that only the first classifier gets right.
        only_theirs: number of images that only the second classifier gets right.
    """
    from scipy.stats import binom

    n = only_ours + only_theirs
    if n == 0:
        return 1.0
    return min(1.0, 2 * float(binom.cdf(min(only_ours, only_theirs), n, 0.5)))


def holm(p_values: ArrayLike) -> list[float]:
    """Returns p-values corrected for their number by Holm's step-down method (1979, Scandinavian Journal
    of Statistics 6, 65-70); those of at most a level are rejected at that level, all together.

    Args:
        p_values: one for each hypothesis, `(M,)`.
    """
    found = np.asarray(p_values, dtype=np.float64).ravel()
    order = np.argsort(found, kind="stable")
    scaled = found[order] * np.arange(len(found), 0, -1)
    corrected = np.empty_like(found)
    corrected[order] = np.minimum(1, np.maximum.accumulate(scaled))
    return [float(value) for value in corrected]


def crossed_test(
    ours: ArrayLike, theirs: ArrayLike, *, confidence: float = 0.95
) -> tuple[float, tuple[float, float], float]:
    """Tests the difference of two means over training seeds and test images.

    The variance of the difference is that between the seeds of each side, as in Welch's test (1947,
    Biometrika 34, 28-35), plus that between images, on which both sides are paired; the degrees of freedom
    are those of Satterthwaite (1946, Biometrics Bulletin 2, 110-114). What varies with both is in both
    parts, so the test is a little too careful, as resampling seeds and images apart is (Owen, 2007,
    Annals of Applied Statistics 1, 386-411). With one seed on each side it is the paired t test over images.

    Args:
        ours: value of each image for each seed, `(S, N)`.
        theirs: the same of the other side, `(T, N)`.
        confidence: probability that the interval covers the difference, in (0, 1).

    Returns:
        The difference of the means, its interval, and the two-sided p-value.

    Raises:
        ValueError: the sides do not have the same images, at least two.
    """
    from scipy.stats import t as student

    one, other = (np.atleast_2d(np.asarray(side, dtype=np.float64)) for side in (ours, theirs))
    if one.shape[1] != other.shape[1] or one.shape[1] < 2:
        raise ValueError(f"{one.shape[1]} and {other.shape[1]} images cannot be paired")
    changes = one.mean(axis=0) - other.mean(axis=0)  # (N,)
    parts = [(float(changes.var(ddof=1)) / len(changes), len(changes) - 1)]
    for side in (one, other):
        if len(side) > 1:
            parts.append((float(side.mean(axis=1).var(ddof=1)) / len(side), len(side) - 1))
    difference, variance = float(changes.mean()), sum(part for part, _ in parts)
    if variance < 1e-24:  # neither seeds nor images differ
        return difference, (difference, difference), 1.0 if abs(difference) < 1e-12 else 0.0
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    error = variance**0.5
    reach = float(student.ppf((1 + confidence) / 2, freedom)) * error
    p = 2 * float(student.sf(abs(difference) / error, freedom))
    return difference, (difference - reach, difference + reach), min(1.0, p)


def rank_intervals(
    outcomes: Sequence[ArrayLike], *, seed: int, n_resamples: int = 1000, confidence: float = 0.95
) -> list[tuple[int, int]]:
    """Returns the percentile bootstrap interval of each contender's rank; 1 is the highest mean.

    Each resample draws test images, the same for all, and the seeds of each contender, both with
    replacement (Owen, 2007, Annals of Applied Statistics 1, 386-411). A rank is one more than the number
    of higher means.

    Args:
        outcomes: value of each image for each seed of a contender, `(S, N)`; one for each contender.
        seed: equal seeds give equal intervals.
        n_resamples: number of resamples.
        confidence: probability that the interval covers the rank, in (0, 1).
    """
    generator = np.random.default_rng(seed)
    sides = [np.atleast_2d(np.asarray(one, dtype=np.float64)) for one in outcomes]
    n = sides[0].shape[1]
    means = np.empty((n_resamples, len(sides)))
    for row in range(n_resamples):
        weights = np.bincount(generator.integers(n, size=n), minlength=n) / n
        for place, side in enumerate(sides):
            drawn = generator.integers(len(side), size=len(side))
            means[row, place] = (side @ weights)[drawn].mean()
    # Rounded, as equal means may differ in the last digit.
    means = means.round(12)
    ranks = 1 + (means[:, None, :] > means[:, :, None]).sum(axis=2)  # (n_resamples, contenders)
    tail = (1 - confidence) / 2
    low, high = np.quantile(ranks, (tail, 1 - tail), axis=0, method="nearest")
    return [(int(one), int(other)) for one, other in zip(low, high, strict=True)]
