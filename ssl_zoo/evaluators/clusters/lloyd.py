"""Spherical k-means that only compares points with centroids that can win them.

Lloyd's algorithm (1982, doi:10.1109/TIT.1982.1056489) compares every point with every centroid in
each iteration. But a centroid whose points do not change does not move, and cannot win a point
that it did not win before. So an iteration computes the products of all points with the centroids
that moved, and with the other centroids only for points whose own product fell below the bound on
the others. The clusters are Lloyd's, up to the last digit of products. After Kaukoranta, Fränti and
Nevalainen, "A fast exact GLA based on code vector activity detection" (IEEE Transactions on Image
Processing, 2000).

Ranks may have a share of the points each: what they add up is summed over all.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ssl_zoo import distributed
from ssl_zoo.evaluators.clusters.points import Points
from ssl_zoo.evaluators.search.faiss_import import faiss as _faiss
from ssl_zoo.evaluators.search.flat import Floats, Ids, unit_rows

_BLOCK = 1 << 14  # points summed at a time
SPLIT_EPS = 1 / 1024
SPLIT_SEED = 1234
"""How much a cluster that is split is pulled apart, and the seed of the choice of clusters, as in
facebookresearch/faiss, Clustering.cpp (`split_clusters`)."""


@dataclass
class _State:
    """The assignment of points.

    Attributes:
        own: cluster of each point, `(n,)`.
        best: product with its centroid, `(n,)`.
        rest: upper bound of the products with other centroids, `(n,)`.
    """

    own: Ids
    best: Floats
    rest: Floats

    @classmethod
    def empty(cls, n: int) -> "_State":
        return cls(np.zeros(n, np.int64), np.zeros(n, np.float32), np.zeros(n, np.float32))

    def part(self, rows: slice) -> "_State":
        """Returns some rows, in the same memory."""
        return _State(self.own[rows], self.best[rows], self.rest[rows])

    def put(self, rows: slice | Ids, found: "_State") -> None:
        self.own[rows], self.best[rows], self.rest[rows] = found.own, found.best, found.rest


def lloyd(
    points: Points,
    centroids: Floats,
    *,
    n_iterations: int,
    over_ranks: bool = False,
    splits: bool = True,
) -> tuple[Floats, float] | None:
    """Returns centroids after iterations of assigning points and moving centroids, and the objective.

    Args:
        points: this rank's.
        centroids: initial centroids of length one, `(K, D)`, with K of 2 or more.
        n_iterations: number of iterations, 1 or more; stops early when no point changes its cluster.
        over_ranks: whether all ranks call it, each with its share of the points.
        splits: whether a cluster without points gets half of a large one, by the rules of faiss.

    Returns:
        Centroids of length one `(K, D)`, and the sum of products in the last assignment; None if a cluster
        has become empty and is not split.
    """
    centroids, k = centroids.copy(), len(centroids)
    state = _State.empty(len(points))
    sums, sizes = np.zeros(centroids.shape), np.zeros(k, dtype=np.int64)
    moved, split = np.arange(k), np.zeros(0, dtype=np.int64)
    for iteration in range(n_iterations):
        delta, change = _assign_all(state, points, centroids, moved if iteration else None)
        if over_ranks:
            distributed.all_reduce(torch.from_numpy(delta))
            distributed.all_reduce(torch.from_numpy(change))
        sums += delta
        sizes += change[0]
        touched = np.flatnonzero(change[1])
        if iteration and not len(touched) and not len(split):
            break
        if not splits and not sizes.all():
            return None
        moved = np.union1d(touched, split) if iteration else np.arange(k)
        lengths = np.linalg.norm(sums[moved], axis=1, keepdims=True)
        centroids[moved] = sums[moved] / np.where(lengths > 0, lengths, 1)
        split = _split_empty(centroids, sizes, int(sizes.sum()))
        moved = np.union1d(moved, split)
    total = torch.tensor(state.best.sum(dtype=np.float64))
    return centroids, float(distributed.all_reduce(total) if over_ranks else total)


def _assign_all(
    state: _State, points: Points, centroids: Floats, moved: Ids | None
) -> tuple[NDArray[np.float64], Ids]:
    """Assigns all points, and returns what it changes.

    Args:
        moved: centroids that have moved since the points were assigned; None to assign them first.

    Returns:
        What to add to the sums of clusters `(K, D)`; and to their sizes, with a count of the points that
        each has won or lost, `(2, K)`.
    """
    delta, change = np.zeros(centroids.shape), np.zeros((2, len(centroids)), dtype=np.int64)
    for rows, part in points.parts():
        before = state.own[rows].copy()
        if moved is None:
            state.put(rows, _assign(part, centroids))
            _add(delta, change, part, state.own[rows], 1)
            continue
        _reassign(state.part(rows), part, centroids, moved)
        changed = np.flatnonzero(state.own[rows] != before)
        if len(changed):
            _add(delta, change, part[changed], before[changed], -1)
            _add(delta, change, part[changed], state.own[rows][changed], 1)
    return delta, change


def _assign(points: Floats, centroids: Floats) -> _State:
    faiss = _faiss()
    products, ids = faiss.knn(points, centroids, 2, faiss.METRIC_INNER_PRODUCT)
    return _State(ids[:, 0].copy(), products[:, 0].copy(), products[:, 1].copy())


def _reassign(state: _State, points: Floats, centroids: Floats, moved: Ids) -> None:
    """Reassigns points to their nearest centroids after some centroids have moved, in place."""
    every = slice(None)
    if len(moved) > 0.9 * len(centroids):  # a partial update would hardly be cheaper
        state.put(every, _assign(points, centroids))
        return
    has_moved = np.zeros(len(centroids), dtype=np.bool_)
    has_moved[moved] = True
    offer = _assign(points, centroids[moved])
    offer.own = moved[offer.own]
    is_own = offer.own == state.own
    stale = np.flatnonzero(has_moved[state.own] & ~is_own)
    best = np.where(is_own, offer.best, state.best)
    best[stale] = np.einsum("nd,nd->n", points[stale], centroids[state.own[stale]])
    # The largest product with a moved centroid other than the own one, and the next largest.
    first = np.where(is_own, offer.rest, offer.best)
    wins = ~is_own & (first > best)
    rest = np.maximum(state.rest, np.where(wins, np.maximum(best, offer.rest), first))
    own, best = np.where(wins, offer.own, state.own), np.where(wins, first, best)
    state.put(every, _State(own, best, rest))
    doubtful = np.flatnonzero(rest > best)
    if len(doubtful):
        state.put(doubtful, _assign(points[doubtful], centroids))


def _split_empty(centroids: Floats, sizes: Ids, n: int) -> Ids:
    """Gives clusters without points a part of another one, in place; returns those that changed."""
    empty = np.flatnonzero(sizes == 0)
    if not len(empty):
        return empty
    draws, left, changed = _Draws(), sizes.astype(np.float32), list[int]()
    up = np.where(np.arange(centroids.shape[1]) % 2 == 0, 1 + SPLIT_EPS, 1 - SPLIT_EPS)
    for one in empty:
        other = draws.first_below((left - 1) / np.float32(max(1, n - len(sizes))))
        base = centroids[other].copy()
        centroids[one], centroids[other] = base * up, base * (2 - up)
        left[one] = left[other] / 2
        left[other] -= left[one]
        changed += [int(one), other]
    found = np.unique(changed)
    centroids[found] = unit_rows(centroids[found])
    return found


class _Draws:
    """The numbers of `faiss.RandomGenerator(SPLIT_SEED).rand_float`, many at a time."""

    def __init__(self) -> None:
        self._source = np.random.RandomState(SPLIT_SEED)
        self._left = np.zeros(0, np.float32)

    def first_below(self, bounds: Floats) -> int:
        """Returns the first position, over and over from 0, at which the next number is below a bound."""
        while True:
            if len(self._left) < len(bounds):
                raw = self._source.randint(0, 1 << 32, 4 * len(bounds), dtype=np.uint32)
                new = raw.astype(np.float32) / np.float32(1 << 32)
                self._left = np.concatenate([self._left, new])
            below = self._left[: len(bounds)] < bounds
            if below.any():
                first = int(below.argmax())
                self._left = self._left[first + 1 :]
                return first
            self._left = self._left[len(bounds) :]


def _add(sums: NDArray[np.float64], change: Ids, points: Floats, clusters: Ids, sign: int) -> None:
    """Adds points to the sums and sizes of their clusters, or subtracts them, in place."""
    from scipy.sparse import csr_array

    counts = np.bincount(clusters, minlength=len(sums))
    change[0] += sign * counts
    change[1] += counts
    for start in range(0, len(clusters), _BLOCK):
        rows = clusters[start : start + _BLOCK]
        n = len(rows)
        members = csr_array((np.full(n, float(sign)), (rows, np.arange(n))), shape=(len(sums), n))
        sums += members @ points[start : start + n].astype(np.float64)
