"""Images with several classes: scores from votes, and average precision."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_zoo.evaluators.knn.protocols import KnnProtocol

Ids = NDArray[np.int64]

VOTE_NUMBERS = 1 << 22
"""Labels of neighbours in memory at a time: test features times neighbours times classes."""


@dataclass(frozen=True)
class Precisions:
    """Average precisions of votes for images with several classes.

    Attributes:
        values: mean average precisions by name, in percent.
        by_class: average precisions at the headline by class, in percent.
        votes: fraction of the votes for each class at the headline, `(Q, C)`.
        truth: `(Q, C)` bool; the classes that test images show.
    """

    values: dict[str, float]
    by_class: dict[str, float]
    votes: NDArray[np.float64]
    truth: NDArray[np.bool_]


def score_multilabels(
    similarities: NDArray[np.float32], ids: Ids, labels: Ids, truth: Ids, protocol: KnnProtocol
) -> Precisions:
    """Returns mean average precisions. Classes without test images are left out.

    Args:
        similarities: similarities of neighbours, decreasing, `(Q, K)`; -inf for no neighbour.
        ids: of the neighbours, `(Q, K)`.
        labels: of train images, `(N, C)`.
        truth: of test images, `(Q, C)`.
        protocol: defines the votes of neighbours.
    """
    shown = np.flatnonzero(truth.any(axis=0))
    relevant = truth[:, shown] == 1
    every, values = {}, {}
    for temperature in protocol.temperatures:
        shares = _shares(similarities, ids, labels[:, shown], protocol, temperature)
        for k, votes in shares.items():
            precisions = [
                100 * step_average_precision(*pair)
                for pair in zip(votes.T, relevant.T, strict=True)
            ]
            values[protocol.score_name("map", k, temperature)] = float(np.mean(precisions))
            every[k, temperature] = votes, precisions
    votes, precisions = every[protocol.headline]
    by_class = {str(one): score for one, score in zip(shown, precisions, strict=True)}
    return Precisions(values, by_class, votes, relevant)


def _shares(
    similarities: NDArray[np.float32],
    ids: Ids,
    labels: Ids,
    protocol: KnnProtocol,
    temperature: float | None,
) -> dict[int, NDArray[np.float64]]:
    """Returns the fraction of votes for each class, `(Q, C)` for each `k`."""
    n, c = len(ids), labels.shape[1]
    found = {k: np.empty((n, c)) for k in protocol.k}
    step = max(1, VOTE_NUMBERS // (ids.shape[1] * c))
    for start in range(0, n, step):
        rows = slice(start, start + step)
        weights = protocol.weigh(similarities[rows], temperature)
        shows = labels[ids[rows]]
        for k in protocol.k:
            votes = np.einsum("qk,qkc->qc", weights[:, :k], shows[:, :k].astype(np.float64))
            found[k][rows] = votes / weights[:, :k].sum(axis=1, keepdims=True)
    return found


def step_average_precision(scores: NDArray[Any], relevant: NDArray[np.bool_]) -> float:
    """Returns the area under the step function of precision over recall, in [0, 1].

    Images with equal scores are added together, as in scikit-learn's `average_precision_score`.

    Args:
        scores: larger for images that are more likely relevant, `(Q,)`.
        relevant: `(Q,)`, at least one True.
    """
    order = np.argsort(-scores, kind="stable")
    falling, hits = scores[order], np.cumsum(relevant[order])
    last = np.append(np.flatnonzero(falling[1:] != falling[:-1]), len(falling) - 1)
    gained = np.diff(hits[last], prepend=0)
    return float((gained * hits[last] / (last + 1)).sum() / hits[-1])


def precision_interval(
    votes: NDArray[np.float64], truth: NDArray[np.bool_], *, seed: int, n_resamples: int
) -> tuple[float, float]:
    """Returns the 95 % percentile bootstrap interval of the mean average precision, in [0, 1].

    Test images are resampled (Efron, 1979). A sample's mean omits classes that the sample does not
    contain; samples without any class are left out.

    Args:
        votes: `(Q, C)`.
        truth: `(Q, C)`.
        seed: equal seeds give equal intervals.
        n_resamples: number of samples.
    """
    n, generator = len(votes), np.random.default_rng(seed)
    step = max(1, VOTE_NUMBERS // n)
    means = []
    for start in range(0, n_resamples, step):
        size = min(step, n_resamples - start)
        counts = generator.multinomial(n, np.full(n, 1 / n), size=size).astype(np.float64)
        found = np.array(
            [_weighted_precisions(counts, *pair) for pair in zip(votes.T, truth.T, strict=True)]
        )
        n_shown = np.isfinite(found).sum(axis=0)
        means.append(np.nansum(found, axis=0)[n_shown > 0] / n_shown[n_shown > 0])
    low, high = np.quantile(np.concatenate(means), (0.025, 0.975))
    return float(low), float(high)


def _weighted_precisions(
    counts: NDArray[np.float64], scores: NDArray[np.float64], relevant: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Returns the average precision of each sample, `(R,)`; NaN for samples without relevant images.

    Args:
        counts: how often each image is in each sample, `(R, Q)`.
        scores: `(Q,)`.
        relevant: `(Q,)`.
    """
    order = np.argsort(-scores, kind="stable")
    falling, drawn = scores[order], counts[:, order]
    last = np.append(np.flatnonzero(falling[1:] != falling[:-1]), len(falling) - 1)
    taken = np.cumsum(drawn, axis=1)[:, last]
    hits = np.cumsum(drawn * relevant[order], axis=1)[:, last]
    gained = np.diff(hits, axis=1, prepend=0)
    areas = (gained * hits / np.maximum(taken, 1)).sum(axis=1)
    shown = hits[:, -1] > 0
    return np.where(shown, areas / np.where(shown, hits[:, -1], 1), np.nan)
