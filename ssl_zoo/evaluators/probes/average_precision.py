"""Average precision as computed by the Pascal VOC challenge since 2010."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1 << 22  # counts in memory at a time


def voc_average_precision(
    scores: NDArray[Any], positive: NDArray[np.bool_], counts: NDArray[Any] | None = None
) -> NDArray[np.float64]:
    """Returns the area under interpolated precision over recall, in [0, 1].

    The precision at each recall is the largest at that recall or above (Everingham et al., devkit
    of 2010, VOCap.m). Images with equal scores are added together.

    Args:
        scores: larger for images that are more likely positive, `(N,)`.
        positive: `(N,)`.
        counts: how often each of R samples contains each image, `(R, N)`; once if None.

    Returns:
        `(R,)`, or `(1,)`; NaN for a sample without positive images.
    """
    if not positive.any():
        return np.full(1 if counts is None else len(counts), np.nan)
    order = np.argsort(-scores, kind="stable")
    scores, positive = scores[order], positive[order]
    last = np.append(scores[1:] != scores[:-1], True)
    weights = np.ones((1, len(scores))) if counts is None else counts[:, order].astype(np.float64)
    right = np.cumsum(weights * positive, axis=1)[:, last]
    taken = np.cumsum(weights, axis=1)[:, last]
    precisions = np.divide(right, taken, out=np.zeros_like(right), where=taken > 0)
    envelope = np.maximum.accumulate(precisions[:, ::-1], axis=1)[:, ::-1]
    steps = np.diff(right, axis=1, prepend=0)
    total = right[:, -1]
    found: NDArray[np.float64] = np.full(len(total), np.nan)
    np.divide((steps * envelope).sum(axis=1), total, out=found, where=total > 0)
    return found


def mean_interval(
    scores: NDArray[Any], labels: NDArray[np.int64], *, seed: int, n_resamples: int
) -> tuple[float, float]:
    """Returns the 95 % bootstrap interval of the mean average precision over test images.

    Average precision is biased upwards in samples, because positive images occur several times;
    the interval is shifted by the mean bias (Efron and Tibshirani, "An introduction to the
    bootstrap", 1993, chapter 10). If a sample has no positive images of a class, the mean is over
    the other classes.

    Args:
        scores: `(N, C)`.
        labels: 1 for positive, 0 for negative, -1 for images ignored for a class, `(N, C)`.
    """
    n = len(labels)
    generator = np.random.default_rng(seed)
    step = max(1, _BLOCK // n)
    means = []
    for start in range(0, n_resamples, step):
        size = min(step, n_resamples - start)
        counts = generator.multinomial(n, np.full(n, 1 / n), size=size)
        means.append(np.nanmean(_by_class(scores, labels, counts), axis=0))
    found = np.concatenate(means)
    own = np.nanmean(_by_class(scores, labels, np.ones((1, n), dtype=np.int64)))
    low, high = np.nanquantile(found, (0.025, 0.975)) - (np.nanmean(found) - own)
    return max(float(low), 0.0), min(float(high), 1.0)


def _by_class(
    scores: NDArray[Any], labels: NDArray[np.int64], counts: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Returns average precisions, `(C, R)`."""
    found = []
    for place in range(labels.shape[1]):
        kept = labels[:, place] >= 0
        positive = labels[kept, place] == 1
        found.append(voc_average_precision(scores[kept, place], positive, counts[:, kept]))
    return np.stack(found)
