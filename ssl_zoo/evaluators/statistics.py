"""Confidence intervals and paired tests."""

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
