"""What neighbours vote for: ranks of the true class, guesses, and how often which are confused."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Weights = Callable[[NDArray[np.float32]], NDArray[np.float64]]
"""Turns similarities `(B, K)` of neighbours into their votes, none below 0."""

VOTE_NUMBERS = 1 << 22
"""Votes that are held at a time: classes times test features."""
CONFUSION_CLASSES = 1000
"""More classes than these have no confusions in details."""


@dataclass(frozen=True)
class Ballot:
    """The outcome of a vote, from positions of classes.

    Attributes:
        ranks: how many classes have more votes than the true one, `(Q,)`; of equal votes the lower
            class is ahead. The number of classes where the true one has no vote.
        guesses: class of most votes, `(Q,)`; of equal votes the lowest.
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
    """Lets the nearest neighbours vote, and says what comes out for each `k`.

    Args:
        similarities: of neighbours in falling order, `(Q, K)`; -inf where there is none.
        labels: classes of the neighbours from 0 to `n_classes - 1`, `(Q, K)`.
        truth: class of each test feature, `(Q,)`; -1 for one that has no neighbours at all.
        weigh: the rule that turns similarities into votes.
        k: numbers of neighbours that vote, rising.
        n_classes: how many classes there are.
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
        # Added one by one in the order of neighbours: equal sets of votes give equal sums.
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
    """Returns accuracies by class and confusions, ready for JSON.

    Args:
        labels: class of each test image as the data set numbers it, `(Q,)`.
        guesses: what it was taken for, `(Q,)`.

    Returns:
        `accuracy_by_class`, in percent, by the number of the class; and, for at most
        `CONFUSION_CLASSES` classes, `confusion`: `[class, guess, images]` wherever there are any.
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
