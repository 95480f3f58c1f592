"""Exact nearest neighbours and k-means on the unit sphere: the only module that imports faiss.

Johnson, Douze and Jégou, "Billion-scale similarity search with GPUs", 2017 (arXiv:1702.08734).
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

CHUNK_BYTES = 512 << 20
"""Largest normalised copy of train features that is held at a time."""
TIE_BYTES = 128 << 20
"""Largest block of similarities that is held when ties are resolved."""


def _faiss() -> Any:
    import torch  # noqa: F401  first, so that faiss joins torch's OpenMP runtime

    import faiss  # isort: skip

    return faiss


def unit_rows(values: Floats) -> Floats:
    """Returns a copy with rows of L2 norm 1; rows of zeros stay zero."""
    norms = np.sqrt(np.einsum("nd,nd->n", values, values, dtype=np.float64))
    norms[norms == 0] = 1
    unit = np.empty(values.shape, dtype=np.float32)
    np.divide(values, norms[:, None], out=unit, casting="same_kind")
    return unit


def nearest(train: Floats, test: Floats, *, k: int) -> tuple[Floats, Ids]:
    """Finds the `k` train features of largest cosine for each test feature.

    Neighbours are ordered by falling cosine, then by rising index, and where several compete for
    the last place the lowest indices win. Cosines are float32 sums, whose last bits can set equal
    features apart. Memory: a normalised copy of `test`, one of at most `CHUNK_BYTES` of `train`,
    and the result twice.

    Args:
        train: `(N, D)`.
        test: `(Q, D)`.
        k: a `k` above `N` finds all `N`.

    Returns:
        Cosines and indices, `(Q, min(k, N))`.
    """
    queries = unit_rows(test)
    n, k = len(train), min(k, len(train))
    wanted = min(k + 1, n)  # one more, to see whether the last place is contested
    cosines = np.empty((len(queries), 0), dtype=np.float32)
    ids = np.empty((len(queries), 0), dtype=np.int64)
    for start, chunk in _unit_chunks(train):
        faiss = _faiss()
        found, places = faiss.knn(
            queries, chunk, min(wanted, len(chunk)), faiss.METRIC_INNER_PRODUCT
        )
        cosines = np.concatenate([cosines, found], axis=1)
        ids = np.concatenate([ids, places + start], axis=1)
        cosines, ids = _in_order(cosines, ids)
        cosines, ids = cosines[:, :wanted], ids[:, :wanted]
    if wanted > k:
        contested = np.flatnonzero(cosines[:, k - 1] == cosines[:, k])
        cosines, ids = cosines[:, :k].copy(), ids[:, :k].copy()
        step = max(1, TIE_BYTES // (4 * n))
        for start in range(0, len(contested), step):
            rows = contested[start : start + step]
            cosines[rows], ids[rows] = _scan(train, queries[rows], k)
    return cosines, ids


def _unit_chunks(values: Floats) -> Iterator[tuple[int, Floats]]:
    rows = max(1, CHUNK_BYTES // (4 * values.shape[1]))
    for start in range(0, len(values), rows):
        yield start, unit_rows(values[start : start + rows])


def _in_order(cosines: Floats, ids: Ids) -> tuple[Floats, Ids]:
    order = np.lexsort((ids, -cosines), axis=1)
    return np.take_along_axis(cosines, order, 1), np.take_along_axis(ids, order, 1)


def _scan(train: Floats, queries: Floats, k: int) -> tuple[Floats, Ids]:
    """Finds neighbours by looking at all cosines, because faiss keeps any of those that tie."""
    cosines = np.concatenate([queries @ chunk.T for _, chunk in _unit_chunks(train)], axis=1)
    last = np.partition(cosines, -k, axis=1)[:, -k, None]
    above, level = cosines > last, cosines == last
    room = k - above.sum(axis=1, keepdims=True)
    chosen = above | (level & (level.cumsum(axis=1) <= room))
    ids = np.nonzero(chosen)[1].reshape(-1, k).astype(np.int64)
    return _in_order(cosines[chosen].reshape(-1, k), ids)


def spherical_kmeans(
    fit: Floats, test: Floats, *, n_clusters: int, n_iterations: int, n_restarts: int, seed: int
) -> Ids:
    """Clusters directions by k-means on all of `fit` and assigns each test feature to a cluster.

    The best of `n_restarts` random starts is used; both arrays must have rows of norm 1.

    Returns:
        Cluster of each test feature, `(Q,)`.
    """
    kmeans = _faiss().Kmeans(
        fit.shape[1],
        n_clusters,
        niter=n_iterations,
        nredo=n_restarts,
        seed=seed,
        spherical=True,
        min_points_per_centroid=1,  # small clusters are no reason for a warning
        max_points_per_centroid=math.ceil(len(fit) / n_clusters),  # else faiss takes a subsample
    )
    kmeans.train(fit)
    clusters: Ids = kmeans.assign(test)[1]
    return clusters
