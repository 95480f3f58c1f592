"""Label-free cluster quality: balance of cluster sizes, and silhouette.

Rousseeuw, "Silhouettes: a graphical aid to the interpretation and validation of cluster analysis",
1987 (doi:10.1016/0377-0427(87)90125-7).
"""

import math

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1 << 24  # values in memory at a time


def cluster_sizes(clusters: NDArray[np.int64], n_clusters: int) -> NDArray[np.int64]:
    """Returns the number of points of each cluster, `(K,)`."""
    return np.bincount(clusters, minlength=n_clusters).astype(np.int64)


def balance(sizes: NDArray[np.int64]) -> float:
    """Returns the entropy of cluster sizes divided by its maximum, ln K, in [0, 1].

    It is 1 if all clusters have the same size and 0 if one cluster holds all points.

    Args:
        sizes: sizes of 2 or more clusters, `(K,)`; empty clusters count.
    """
    shares = sizes[sizes > 0] / sizes.sum()
    return max(0.0, -float(np.sum(shares * np.log(shares))) / math.log(len(sizes)))


def silhouette(points: NDArray[np.float32], clusters: NDArray[np.int64], n_clusters: int) -> float:
    """Returns the mean silhouette of all points under the distance 1 - cosine, in [-1, 1].

    It is exact, without computing pairs of points: the mean distance of a unit vector to a cluster
    is 1 minus its dot product with the mean of the cluster. As in scikit-learn, a point alone in
    its cluster has silhouette 0; if one cluster holds all points, all have 0.

    Args:
        points: rows of length one, or zeros, `(N, D)`.
        clusters: from 0 to `n_clusters - 1`, `(N,)`; some may be empty.
    """
    sizes = cluster_sizes(clusters, n_clusters)
    present = np.flatnonzero(sizes)
    if len(present) < 2:
        return 0.0
    own = np.searchsorted(present, clusters)
    counts = sizes[present].astype(np.float64)
    step = max(1, _BLOCK // max(len(present), points.shape[1]))
    blocks = [slice(start, start + step) for start in range(0, len(points), step)]
    sums = sum(_sums(points[rows], own[rows], len(present)) for rows in blocks)
    means = (sums / counts[:, None]).astype(np.float32)
    total = sum(_sum_of_silhouettes(points[rows], own[rows], means, counts) for rows in blocks)
    return total / len(points)


def _sums(
    points: NDArray[np.float32], own: NDArray[np.int64], n_clusters: int
) -> NDArray[np.float64]:
    from scipy.sparse import csr_array

    n = len(points)
    members = csr_array((np.ones(n), (own, np.arange(n))), shape=(n_clusters, n))
    sums: NDArray[np.float64] = members @ points.astype(np.float64)
    return sums


def _sum_of_silhouettes(
    points: NDArray[np.float32],
    own: NDArray[np.int64],
    means: NDArray[np.float32],
    counts: NDArray[np.float64],
) -> float:
    distances = 1 - (points @ means.T).astype(np.float64)
    rows = np.arange(len(points))
    n = counts[own]
    with_itself = 1 - np.einsum("nd,nd->n", points, points, dtype=np.float64)
    others = np.maximum(n - 1, 1)
    within = (n * distances[rows, own] - with_itself) / others
    distances[rows, own] = np.inf
    between = distances.min(axis=1)
    larger = np.maximum(within, between)
    # The distance of equal points is 0 up to rounding, which must not affect the silhouette.
    real = (n > 1) & (larger > 1e-6)
    return float(((between - within)[real] / larger[real]).sum())
