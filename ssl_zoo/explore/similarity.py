"""What features say about a set of images: near-duplicates, outliers, a diverse subset, neighbours.

All of it is by the cosine of features, and the same for features of any length.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssl_zoo.errors import UserError
from ssl_zoo.evaluators.search.exact import nearest, unit_rows

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

BLOCK_NUMBERS = 1 << 24
"""Cosines in memory at a time."""
MOST_PAIRS = 10_000_000
"""Most pairs of near-duplicates; with more, the threshold is too low to mean anything."""


@dataclass(frozen=True)
class Listed:
    """Images in order, with a number for each.

    Attributes:
        index: rows of the images, `(n,)`.
        values: similarity or distance of each, `(n,)`.
    """

    index: Ids
    values: Floats


def near_duplicates(features: Floats, *, above: float) -> list[Listed]:
    """Returns groups of images that are linked by cosines of `above` or more, largest groups first.

    As in SemDeDup (Abbas et al., 2023, arXiv:2303.09540), a duplicate is a pair whose cosine exceeds a
    threshold; all pairs are compared, not only those within a cluster. Of each group the first image is
    listed first, with similarity 1, then the others in order, with their highest cosine to another
    image of the group.

    Args:
        features: `(N, D)`.
        above: threshold, in (0, 1].

    Raises:
        UserError: there are more than `MOST_PAIRS` pairs.
    """
    pairs, cosines = _pairs(unit_rows(features), above)
    if not len(pairs):
        return []
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(features)
    links = coo_array((np.ones(len(pairs), dtype=np.int8), (pairs[:, 0], pairs[:, 1])), (n, n))
    groups = connected_components(links, directed=False)[1]
    closest = np.zeros(n, dtype=np.float32)
    for side in (0, 1):
        np.maximum.at(closest, pairs[:, side], cosines)
    members = np.unique(pairs)
    order = members[np.argsort(groups[members], kind="stable")]
    cuts = np.flatnonzero(np.diff(groups[order])) + 1
    found = [Listed(part, closest[part].copy()) for part in np.split(order, cuts)]
    for group in found:
        group.values[0] = 1
    return sorted(found, key=lambda group: (-len(group.index), group.index[0]))


def _pairs(unit: Floats, above: float) -> tuple[Ids, Floats]:
    """Returns pairs of rows `(P, 2)`, the lower first, and their cosines `(P,)`."""
    n, pairs, cosines, total = (
        len(unit),
        [np.empty((0, 2), np.int64)],
        [np.empty(0, np.float32)],
        0,
    )
    step = max(1, BLOCK_NUMBERS // max(n, 1))
    for start in range(0, n, step):
        products = unit[start : start + step] @ unit[start:].T
        rows, columns = np.nonzero(products >= above)
        later = columns > rows
        rows, columns = rows[later], columns[later]
        total += len(rows)
        if total > MOST_PAIRS:
            raise UserError(
                f"more than {MOST_PAIRS:,} pairs of the {n:,} images have a cosine of {above} or more; "
                "raise --above"
            )
        pairs.append(np.stack([rows, columns], 1) + start)
        cosines.append(products[rows, columns])
    return np.concatenate(pairs), np.concatenate(cosines)


def outliers(features: Floats, *, k: int = 10) -> Listed:
    """Returns all images, those that are farthest from others first.

    The distance is 1 minus the cosine to the k-th nearest other image (Ramaswamy, Rastogi and Shim,
    2000, "Efficient algorithms for mining outliers from large data sets"; on normalised features of
    networks Sun et al., 2022, arXiv:2204.06507).

    Args:
        features: `(N, D)`.
        k: number of the neighbour, from 1.

    Raises:
        UserError: there are not more than `k` images.
    """
    if len(features) <= k:
        raise UserError(f"{len(features)} images have no {k} neighbours each; lower --k")
    cosines, _ = nearest(features, features, k=k + 1)  # each image is its own nearest
    distances = 1 - cosines[:, k]
    order = np.argsort(-distances, kind="stable")
    return Listed(order, distances[order])


def diverse_subset(features: Floats, *, size: int) -> Listed:
    """Returns images such that every other image is near to one of them, the most typical first.

    Greedy k-center, or farthest-first traversal (Gonzalez, 1985, "Clustering to minimize the maximum
    intercluster distance"; Sener and Savarese, 2018, arXiv:1708.00489): the image nearest to the mean,
    then in each step the one that is farthest from those chosen. The largest distance that is left is
    at most twice the smallest possible. The number of an image is its Euclidean distance, between
    normalised features, from those chosen before it; 0 for the first.

    Args:
        features: `(N, D)`.
        size: number of images.

    Raises:
        UserError: there are fewer images.
    """
    if size > len(features):
        raise UserError(f"{size} images cannot be chosen from {len(features)}; lower --size")
    unit = unit_rows(features)
    first = int(np.argmax(unit @ unit.mean(0, dtype=np.float64).astype(np.float32)))
    chosen, numbers = [first], [0.0]
    squares = _squares(unit, first)
    for _ in range(size - 1):
        farthest = int(np.argmax(squares))
        chosen.append(farthest)
        numbers.append(float(np.sqrt(max(squares[farthest], 0))))
        np.minimum(squares, _squares(unit, farthest), out=squares)
    return Listed(np.array(chosen, dtype=np.int64), np.array(numbers, dtype=np.float32))


def _squares(unit: Floats, place: int) -> Floats:
    """Returns the squared distances of all rows to one of them; its own is -1, so that it is chosen
    only once even if all are equal."""
    found: Floats = np.maximum(2 - 2 * (unit @ unit[place]), 0)
    found[place] = -1
    return found


def neighbours(features: Floats, place: int, *, k: int = 10) -> Listed:
    """Returns the images whose features have the largest cosines with that of one image.

    Args:
        features: `(N, D)`.
        place: row of the image, which is not among its neighbours.
        k: number of neighbours; above N - 1, all others are returned.
    """
    cosines, index = nearest(features, features[place : place + 1], k=k + 1)
    others = index[0] != place
    return Listed(index[0][others][:k], cosines[0][others][:k])
