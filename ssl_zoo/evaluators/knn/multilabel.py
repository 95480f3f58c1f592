"""Images that show several classes: scores by votes, and average precision."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_zoo.evaluators.knn.protocols import KnnProtocol

Ids = NDArray[np.int64]

VOTE_NUMBERS = 1 << 22
"""Labels of neighbours that are held at a time: test features times neighbours times classes."""


@dataclass(frozen=True)
class Precisions:
    """What votes for several classes an image are worth.

    Attributes:
        values: mean average precisions by name, in percent.
        by_class: average precisions at the headline by class, in percent.
        votes: shares of votes at the headline, `(Q, C)`.
        truth: `(Q, C)` bool; the classes that test images show.
    """

    values: dict[str, float]
    by_class: dict[str, float]
    votes: NDArray[np.float64]
    truth: NDArray[np.bool_]


def score_multilabels(
    similarities: NDArray[np.float32], ids: Ids, labels: Ids, truth: Ids, protocol: KnnProtocol
) -> Precisions:
    """Returns mean average precisions. Classes that no test image shows are left out.

    Args:
        similarities: of neighbours in falling order, `(Q, K)`; -inf where there is none.
        ids: of the neighbours, `(Q, K)`.
        labels: of train images, `(N, C)`.
        truth: of test images, `(Q, C)`.
        protocol: says how neighbours vote.
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
    """Returns the share of votes that each class has, `(Q, C)` for each `k`."""
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
    """Returns the area under the steps of precision over recall, in [0, 1].

    Images of equal scores are taken in together, as in scikit-learn's `average_precision_score`.

    Args:
        scores: larger for what is more likely relevant, `(Q,)`.
        relevant: `(Q,)`, at least one of them.
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

    Test images are resampled (Efron, 1979). A class that a sample does not show is left out of its
    mean, and so is a sample that shows none.

    Args:
        votes: `(Q, C)`.
        truth: `(Q, C)`.
        seed: equal seeds give equal intervals.
        n_resamples: samples.
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
    """Returns the average precision of each sample, `(R,)`, NaN where it shows nothing relevant.

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
