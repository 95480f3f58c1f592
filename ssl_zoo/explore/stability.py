"""The number of clusters whose result depends least on chance.

Clusterings of different random parts of the images are compared with each other, as in Ben-Hur, Elisseeff
and Guyon, "A stability based method for discovering structure in clustered data", 2002 (Pacific Symposium
on Biocomputing 7, 6-17); each is extended to all images by the nearest centroid (section 2 of von Luxburg,
"Clustering stability: an overview", 2010, arXiv:1007.1075). Two are compared by the adjusted Rand index
(Hubert and Arabie, 1985, doi:10.1007/BF01908075), which is 1 for equal clusters and 0 on average for
independent ones, whatever their number.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from ssl_zoo.errors import UserError
from ssl_zoo.evaluators.clusters.spherical import cluster_directions, nearest_direction
from ssl_zoo.explore.groups import Floats

logger = logging.getLogger(__name__)

CANDIDATES = (2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50)
"""Numbers of clusters that are tried."""
N_SEEDS = 5
"""Number of random parts that are clustered for each candidate."""
PART = 0.8
"""Fraction of the images in a part."""
LARGEST_SAMPLE = 10_000
"""Number of images, drawn at random, beyond which more would only take time."""
IMAGES_PER_CLUSTER = 10
"""Images per cluster, on average, that a candidate needs."""


@dataclass(frozen=True)
class Stability:
    """How much clusterings into a number of clusters agree.

    Attributes:
        n_clusters: the number of clusters.
        mean: mean adjusted Rand index of all pairs of parts, at most 1.
        deviation: standard deviation over these pairs.
    """

    n_clusters: int
    mean: float
    deviation: float


def stabilities(
    points: Floats, *, n_iterations: int, n_restarts: int, seed: int
) -> tuple[Stability, ...]:
    """Returns the stability of each candidate, for normalised points `(N, D)`.

    Raises:
        UserError: there are too few points for two candidates.
    """
    candidates = [n for n in CANDIDATES if n * IMAGES_PER_CLUSTER <= len(points)]
    if len(candidates) < 2:
        least = CANDIDATES[1] * IMAGES_PER_CLUSTER
        raise UserError(
            f"--clusters auto needs at least {least} images, and there are {len(points)}; set the number "
            "with --clusters N"
        )
    draw = np.random.default_rng(seed)
    sample = np.sort(draw.permutation(len(points))[:LARGEST_SAMPLE])
    parts = [
        np.sort(draw.permutation(len(sample))[: round(PART * len(sample))]) for _ in range(N_SEEDS)
    ]
    sampled, found = points[sample], []
    for n_clusters in candidates:
        assigned = []
        for number, part in enumerate(parts):
            centroids = cluster_directions(
                sampled[part],
                n_clusters=n_clusters,
                n_iterations=n_iterations,
                n_restarts=n_restarts,
                seed=seed + number,
            )
            assigned.append(nearest_direction(sampled, centroids)[0])
        found.append(agreement_of(n_clusters, assigned))
        logger.info("%d clusters: stability %.3f", n_clusters, found[-1].mean)
    return tuple(found)


def agreement_of(n_clusters: int, assigned: Sequence[object]) -> Stability:
    """Returns the agreement of several assignments `(N,)` of the same points."""
    from sklearn.metrics import adjusted_rand_score

    pairs = [adjusted_rand_score(one, other) for one, other in combinations(assigned, 2)]
    return Stability(n_clusters, float(np.mean(pairs)), float(np.std(pairs, ddof=1)))


def most_stable(found: Iterable[Stability]) -> int:
    """Returns the number of clusters of the highest mean; of equal ones, the larger number."""
    return max(found, key=lambda one: (one.mean, one.n_clusters)).n_clusters


def told(found: Sequence[Stability]) -> str:
    """Returns all candidates in one line, the chosen one marked."""
    best = most_stable(found)
    each = [
        f"{one.n_clusters}: {one.mean:.3f}{' (chosen)' * (one.n_clusters == best)}"
        for one in found
    ]
    return f"stability by number of clusters: {', '.join(each)}"
