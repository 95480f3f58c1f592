"""Clusters of features, numbered by size, with members sorted by similarity."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ssl_zoo.evaluators.clusters.clustering import agreement
from ssl_zoo.evaluators.clusters.cohesion import balance, cluster_sizes, silhouette
from ssl_zoo.evaluators.clusters.spherical import cluster_directions, nearest_direction
from ssl_zoo.evaluators.search.exact import unit_rows

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Groups:
    """Points in clusters; cluster 0 is the largest.

    Attributes:
        points: L2-normalised features, or zeros, `(N, D)`.
        clusters: cluster of each point, `(N,)`.
        cosines: similarity of each point to its cluster, `(N,)`.
        centroids: L2-normalised, or zeros, `(K, D)`.
        numbers: original numbers of the clusters, `(K,)`.
    """

    points: Floats
    clusters: Ids
    cosines: Floats
    centroids: Floats
    numbers: Ids

    def __len__(self) -> int:
        return len(self.centroids)

    @cached_property
    def sizes(self) -> Ids:
        """Number of points of each cluster, `(K,)`, decreasing."""
        return cluster_sizes(self.clusters, len(self))

    @cached_property
    def members(self) -> list[Ids]:
        """Points of each cluster by decreasing cosine, ties by index."""
        order = np.lexsort((np.arange(len(self.points)), -self.cosines, self.clusters))
        return np.split(order.astype(np.int64), np.cumsum(self.sizes)[:-1])

    def scores(self) -> dict[str, float]:
        """Returns the mean similarity in [-1, 1], and balance and silhouette in percent."""
        return {
            "mean_similarity": float(self.cosines.mean(dtype=np.float64)),
            "balance": 100 * balance(self.sizes),
            "silhouette": 100 * silhouette(self.points, self.clusters, len(self)),
        }

    def agreement(self, labels: Ids) -> dict[str, float]:
        """Returns nmi, ami, ari, purity and, where defined, accuracy over the points with a label.

        Args:
            labels: `(N,)`; negative for points without one.

        Returns:
            Percentages; empty if all labels are equal.
        """
        known = labels >= 0
        names, classes = np.unique(labels[known], return_inverse=True)
        if len(names) < 2:
            return {}
        return agreement(classes, self.clusters[known], n_clusters=len(self))


def group(
    points: Floats, *, n_clusters: int, n_iterations: int, n_restarts: int, seed: int
) -> Groups:
    """Returns spherical k-means clusters of normalised points `(N, D)`, numbered by size."""
    centroids = cluster_directions(
        points,
        n_clusters=n_clusters,
        n_iterations=n_iterations,
        n_restarts=n_restarts,
        seed=seed,
    )
    return _by_size(points, *nearest_direction(points, centroids), centroids)


def group_by_scores(points: Floats, scores: Floats) -> Groups:
    """Returns clusters in which each point belongs to its prototype of largest score.

    Args:
        points: L2-normalised features, or zeros, `(N, D)`; centroids are the normalised means.
        scores: scores of points and prototypes, `(N, K)`; a point's largest score is its similarity.
    """
    clusters = scores.argmax(axis=1)
    sums = np.zeros((scores.shape[1], points.shape[1]))
    np.add.at(sums, clusters, points)
    return _by_size(points, clusters, scores.max(axis=1), unit_rows(sums.astype(np.float32)))


def _by_size(points: Floats, clusters: Ids, cosines: Floats, centroids: Floats) -> Groups:
    order = np.argsort(-cluster_sizes(clusters, len(centroids)), kind="stable")
    places = np.empty(len(order), dtype=np.int64)
    places[order] = np.arange(len(order))
    return Groups(points, places[clusters], cosines, centroids[order], order)


@dataclass(frozen=True)
class Majority:
    """The most frequent label of a cluster.

    Attributes:
        label: name of the label.
        share: fraction of the labelled images in the cluster, in [0, 1].
    """

    label: str
    share: float


def majority(labels: Ids, names: list[str]) -> Majority | None:
    """Returns the most frequent label of a cluster; None if no image has a label.

    Args:
        labels: labels of the images in the cluster, `(n,)`; negative for images without one.
        names: names of the classes; if empty, numbers are used.
    """
    known = labels[labels >= 0]
    if not len(known):
        return None
    counts = np.bincount(known)
    label = int(counts.argmax())
    return Majority(label_name(label, names), float(counts[label] / len(known)))


def label_name(label: int, names: list[str]) -> str:
    """Returns the name of a label; empty for a negative one."""
    if label < 0:
        return ""
    return names[label] if label < len(names) else str(label)
