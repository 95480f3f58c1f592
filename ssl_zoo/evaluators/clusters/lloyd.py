"""Spherical k-means that only compares points with centroids that have moved.

Lloyd's algorithm (1982, doi:10.1109/TIT.1982.1056489) compares every point with every centroid in
each iteration. But a centroid whose points do not change does not move, and cannot win a point
that it did not win before. So an iteration computes the products of all points with the centroids
that moved, and with the other centroids only for points whose own product fell below the bound on
the others. The clusters are Lloyd's, up to the last digit of
products. After Kaukoranta, Fränti and Nevalainen, "A fast exact
GLA based on code vector activity detection" (IEEE Transactions on Image Processing, 2000).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssl_zoo.evaluators.search.faiss_import import faiss as _faiss
from ssl_zoo.evaluators.search.flat import Floats, Ids

_BLOCK = 1 << 14  # points summed at a time


@dataclass
class _State:
    """The assignment of the points.

    Attributes:
        own: cluster of each point, `(N,)`.
        best: product with its centroid, `(N,)`.
        rest: upper bound of the products with other centroids, `(N,)`.
    """

    own: Ids
    best: Floats
    rest: Floats


def lloyd(points: Floats, centroids: Floats, *, n_iterations: int) -> tuple[Floats, float] | None:
    """Returns centroids after iterations of assigning points and moving centroids, and the objective.

    Args:
        points: rows of length one, or zeros, `(N, D)`.
        centroids: initial centroids of length one, `(K, D)`, with K of 2 or more.
        n_iterations: number of iterations, 1 or more; stops early when no point changes its cluster.

    Returns:
        Centroids of length one `(K, D)`, and the sum of products in the last assignment; None if a
        cluster has become empty.
    """
    centroids = centroids.copy()
    state = _assign(points, centroids)
    sums = np.zeros(centroids.shape)
    sizes = np.zeros(len(centroids), dtype=np.int64)
    _add(sums, sizes, points, state.own, np.arange(len(points)), 1)
    moved = np.arange(len(centroids))
    for iteration in range(n_iterations):
        if iteration:
            before = state.own.copy()
            _reassign(state, points, centroids, moved)
            changed = np.flatnonzero(state.own != before)
            if not len(changed):
                break
            _add(sums, sizes, points, before, changed, -1)
            _add(sums, sizes, points, state.own, changed, 1)
            moved = np.unique([before[changed], state.own[changed]])
        if not sizes.all():
            return None
        lengths = np.linalg.norm(sums[moved], axis=1, keepdims=True)
        centroids[moved] = sums[moved] / np.where(lengths > 0, lengths, 1)
    return centroids, float(state.best.sum(dtype=np.float64))


def _assign(points: Floats, centroids: Floats) -> _State:
    faiss = _faiss()
    products, ids = faiss.knn(points, centroids, 2, faiss.METRIC_INNER_PRODUCT)
    return _State(ids[:, 0].copy(), products[:, 0].copy(), products[:, 1].copy())


def _reassign(state: _State, points: Floats, centroids: Floats, moved: Ids) -> None:
    """Reassigns points to their nearest centroids after some centroids have moved."""
    if len(moved) > 0.9 * len(centroids):  # a partial update would hardly be cheaper
        found = _assign(points, centroids)
        state.own, state.best, state.rest = found.own, found.best, found.rest
        return
    has_moved = np.zeros(len(centroids), dtype=np.bool_)
    has_moved[moved] = True
    offer = _assign(points, centroids[moved])
    offer.own = moved[offer.own]
    is_own = offer.own == state.own
    stale = np.flatnonzero(has_moved[state.own] & ~is_own)
    own = centroids[state.own[stale]]
    state.best = np.where(is_own, offer.best, state.best)
    state.best[stale] = np.einsum("nd,nd->n", points[stale], own)
    # The largest product with a moved centroid other than the own one, and the next largest.
    first = np.where(is_own, offer.rest, offer.best)
    wins = ~is_own & (first > state.best)
    state.rest = np.maximum(state.rest, np.where(wins, np.maximum(state.best, offer.rest), first))
    state.own = np.where(wins, offer.own, state.own)
    state.best = np.where(wins, first, state.best)
    doubtful = np.flatnonzero(state.rest > state.best)
    if len(doubtful):
        found = _assign(points[doubtful], centroids)
        state.own[doubtful], state.best[doubtful] = found.own, found.best
        state.rest[doubtful] = found.rest


def _add(
    sums: NDArray[np.float64], sizes: Ids, points: Floats, clusters: Ids, which: Ids, sign: int
) -> None:
    """Adds points to the sums and sizes of their clusters, or subtracts them, in place."""
    from scipy.sparse import csr_array

    sizes += sign * np.bincount(clusters[which], minlength=len(sizes))
    for start in range(0, len(which), _BLOCK):
        rows = which[start : start + _BLOCK]
        n = len(rows)
        members = csr_array(
            (np.full(n, float(sign)), (clusters[rows], np.arange(n))), shape=(len(sums), n)
        )
        sums += members @ points[rows].astype(np.float64)
