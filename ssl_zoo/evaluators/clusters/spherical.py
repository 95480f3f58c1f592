"""K-means on the unit sphere.

Dhillon and Modha, "Concept decompositions for large sparse text data using clustering", 2001
(doi:10.1023/A:1007612920971), with the k-means of facebookresearch/faiss on all points.
"""

import math

from ssl_zoo.evaluators.clusters.lloyd import lloyd
from ssl_zoo.evaluators.search.faiss_import import faiss as _faiss
from ssl_zoo.evaluators.search.flat import Floats, Ids

_SEED_STEP = 15486557
"""Step between the seeds of restarts, as in facebookresearch/faiss, Clustering.cpp."""


def cluster_directions(
    points: Floats, *, n_clusters: int, n_iterations: int, n_restarts: int, seed: int
) -> Floats:
    """Clusters directions and returns the centroids `(K, D)`, of length one.

    Keeps the one of `n_restarts` random starts with the largest sum of cosines. Starts, iterations
    and selection are those of faiss, so equal seeds give the result of `faiss.Kmeans`, up to the
    last digit of products.

    Args:
        points: rows of length one, or zeros, `(N, D)`; at least `n_clusters` of them.
        n_clusters: 2 or more.
    """
    best: tuple[Floats, float] | None = None
    for restart in range(n_restarts):
        own_seed = (seed + restart * _SEED_STEP) % 2**31  # faiss stores it in a C int
        start, _ = _by_faiss(points, n_clusters, 0, own_seed)
        found = lloyd(points, start, n_iterations=n_iterations)
        if found is None:  # faiss handles clusters without points
            found = _by_faiss(points, n_clusters, n_iterations, own_seed)
        if best is None or found[1] > best[1]:
            best = found
    assert best is not None
    return best[0]


def _by_faiss(
    points: Floats, n_clusters: int, n_iterations: int, seed: int
) -> tuple[Floats, float]:
    """Returns centroids `(K, D)` and the sum of cosines; without iterations, the random start."""
    kmeans = _faiss().Kmeans(
        points.shape[1],
        n_clusters,
        niter=n_iterations,
        seed=seed,
        spherical=True,
        min_points_per_centroid=1,  # no warning about small clusters
        max_points_per_centroid=math.ceil(len(points) / n_clusters),  # otherwise faiss subsamples
    )
    objective = kmeans.train(points)
    return kmeans.centroids, float(objective)


def nearest_direction(points: Floats, centroids: Floats) -> tuple[Ids, Floats]:
    """Returns the centroid with the largest dot product for each point, and that product, both `(N,)`."""
    faiss = _faiss()
    products, clusters = faiss.knn(points, centroids, 1, faiss.METRIC_INNER_PRODUCT)
    return clusters[:, 0], products[:, 0]
