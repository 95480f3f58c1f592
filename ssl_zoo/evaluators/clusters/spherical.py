"""K-means on the unit sphere.

Dhillon and Modha, "Concept decompositions for large sparse text data using clustering", 2001
(doi:10.1023/A:1007612920971), with the k-means of facebookresearch/faiss on all points.
"""

import math
from dataclasses import dataclass

import numpy as np

from ssl_zoo import distributed
from ssl_zoo.evaluators.clusters.lloyd import lloyd
from ssl_zoo.evaluators.clusters.points import Points
from ssl_zoo.evaluators.search.faiss_import import faiss as _faiss
from ssl_zoo.evaluators.search.flat import Floats, Ids, unit_rows
from ssl_zoo.evaluators.search.sharing import Spread, spread

_SEED_STEP = 15486557
"""Step between the seeds of restarts, as in facebookresearch/faiss, Clustering.cpp."""
WORTH_SHARING = 1 << 31
"""Fewest multiplications of an iteration that ranks share."""


def cluster_directions(
    points: Floats | Points, *, n_clusters: int, n_iterations: int, n_restarts: int, seed: int
) -> Floats:
    """Clusters directions and returns the centroids `(K, D)`, of length one.

    Keeps the one of `n_restarts` random starts with the largest sum of cosines. Starts, iterations
    and selection are those of faiss, so equal seeds give the result of `faiss.Kmeans`, up to the
    last digit of products.

    Called on rank 0 while the others wait for it (`distributed.on_main`), a large problem is shared by
    all ranks; sums over ranks may differ from those of one in their last digit.

    Args:
        points: rows of length one, or zeros, `(N, D)`; at least `n_clusters` of them.
        n_clusters: 2 or more.
    """
    points = points if isinstance(points, Points) else Points(points)
    seeds = tuple((seed + restart * _SEED_STEP) % 2**31 for restart in range(n_restarts))
    starts = tuple((one, _start(points, n_clusters, one)) for one in seeds)
    request = _Request(Spread.of(points.values), points.normalised, starts, n_iterations)
    if not distributed.helpers() or points.values.size * n_clusters < WORTH_SHARING:
        return _best_of(points, request)
    return distributed.together(_cluster_own, request, held=points.values)


@dataclass(frozen=True)
class _Request:
    """A clustering, in which other ranks may take part; see `Points` and `lloyd`.

    Attributes:
        starts: the seed and the centroids of each start.
    """

    points: Spread
    normalised: bool
    starts: tuple[tuple[int, Floats], ...]
    n_iterations: int


def _cluster_own(request: _Request, held: Floats | None) -> Floats:
    """Clusters this rank's share of the points with the others'."""
    values, _ = spread(request.points, held)
    points = Points(values, normalised=request.normalised)
    return _best_of(points, request, over_ranks=True)


def _best_of(points: Points, request: "_Request", *, over_ranks: bool = False) -> Floats:
    """Returns the centroids of largest objective, the first of equal ones."""
    in_memory = points.normalised and not over_ranks
    best: tuple[Floats, float] | None = None
    for seed, start in request.starts:
        found = lloyd(
            points,
            start,
            n_iterations=request.n_iterations,
            over_ranks=over_ranks,
            splits=not in_memory,
        )
        if found is None:  # faiss handles clusters without points
            found = _by_faiss(points.values, len(start), request.n_iterations, seed)
        if best is None or found[1] > best[1]:
            best = found
    assert best is not None
    return best[0]


def _by_faiss(
    points: Floats, n_clusters: int, n_iterations: int, seed: int
) -> tuple[Floats, float]:
    """Returns centroids `(K, D)` and the sum of cosines."""
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


def _start(points: Points, n_clusters: int, seed: int) -> Floats:
    """Returns the points that faiss starts with."""
    faiss = _faiss()
    order = np.empty(len(points), dtype=np.int32)
    faiss.rand_perm(faiss.swig_ptr(order), len(points), seed + 1)
    return unit_rows(points.take(order[:n_clusters].astype(np.int64)))


def nearest_direction(points: Floats, centroids: Floats) -> tuple[Ids, Floats]:
    """Returns the centroid with the largest dot product for each point, and that product, both `(N,)`."""
    faiss = _faiss()
    products, clusters = faiss.knn(points, centroids, 1, faiss.METRIC_INNER_PRODUCT)
    return clusters[:, 0], products[:, 0]
