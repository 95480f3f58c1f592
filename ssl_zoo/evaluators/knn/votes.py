"""Votes of neighbours: ranks of the true class, predictions, and confusions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Weights = Callable[[NDArray[np.float32]], NDArray[np.float64]]
"""Turns similarities `(B, K)` of neighbours into non-negative votes."""

VOTE_NUMBERS = 1 << 22
"""Votes in memory at a time: classes times test features."""
CONFUSION_CLASSES = 1000
"""Largest number of classes for which details include confusions."""


@dataclass(frozen=True)
class Ballot:
    """The outcome of a vote, in positions of classes.

    Attributes:
        ranks: number of classes ahead of the true one, `(Q,)`; with equal votes the lower class is
            ahead. The number of classes if the true one has no vote.
        guesses: class with the most votes, `(Q,)`; the lowest in a tie.
    """

    ranks: Ids
    guesses: Ids


def count_votes(
    similarities: NDArray[np.float32],
    labels: Ids,
    truth: Ids,
    *,
    weigh: Weights,
    k: Sequence[int],
    n_classes: int,
) -> dict[int, Ballot]:
    """Returns the outcome of the neighbours' vote for each `k`.

    Args:
        similarities: similarities of neighbours, decreasing, `(Q, K)`; -inf for no neighbour.
        labels: classes of the neighbours from 0 to `n_classes - 1`, `(Q, K)`.
        truth: class of each test feature, `(Q,)`; -1 for a class without neighbours.
        weigh: the rule that turns similarities into votes.
        k: numbers of neighbours that vote, increasing.
        n_classes: number of classes.
    """
    step = max(1, VOTE_NUMBERS // n_classes)
    blocks = [
        _count_block(weigh(similarities[rows]), labels[rows], truth[rows], k, n_classes)
        for rows in (slice(start, start + step) for start in range(0, len(truth), step))
    ]
    return {
        n: Ballot(
            np.concatenate([block[n].ranks for block in blocks]),
            np.concatenate([block[n].guesses for block in blocks]),
        )
        for n in k
    }


def _count_block(
    weights: NDArray[np.float64], labels: Ids, truth: Ids, k: Sequence[int], n_classes: int
) -> dict[int, Ballot]:
    n = len(truth)
    votes = np.zeros(n * n_classes)
    places = np.arange(n)[:, None] * n_classes + labels
    known = np.maximum(truth, 0)
    found, done = {}, 0
    for count in k:
        # Added one by one in the order of neighbours, so equal sets of votes give equal sums.
        part = slice(done, count)
        np.add.at(votes, places[:, part].ravel(), weights[:, part].ravel())
        done = count
        table = votes.reshape(n, n_classes)
        own = table[np.arange(n), known][:, None]
        ahead = (table > own).sum(axis=1)
        ahead += ((table == own) & (np.arange(n_classes) < known[:, None])).sum(axis=1)
        voted = (own[:, 0] > 0) & (truth >= 0)
        found[count] = Ballot(np.where(voted, ahead, n_classes), table.argmax(axis=1))
    return found


def class_details(labels: Ids, guesses: Ids) -> dict[str, Any]:
    """Returns accuracies by class and confusions, as JSON-serialisable values.

    Args:
        labels: class of each test image in the data set's numbering, `(Q,)`.
        guesses: predicted classes, `(Q,)`.

    Returns:
        `accuracy_by_class`, in percent, by the number of the class; and, for at most
        `CONFUSION_CLASSES` classes, `confusion`: `[class, guess, images]` for each pair that occurs.
    """
    classes, places = np.unique(labels, return_inverse=True)
    hits = np.bincount(places, weights=labels == guesses)
    shares = 100 * hits / np.bincount(places)
    found: dict[str, Any] = {
        "accuracy_by_class": {
            str(one): float(share) for one, share in zip(classes, shares, strict=True)
        }
    }
    if len(np.union1d(classes, guesses)) <= CONFUSION_CLASSES:
        pairs, counts = np.unique(np.stack([labels, guesses]), axis=1, return_counts=True)
        found["confusion"] = np.concatenate([pairs, counts[None]]).T.tolist()
    return found
