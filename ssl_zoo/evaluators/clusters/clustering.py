"""Clusters computed without labels, compared with classes."""

from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from ssl_zoo.config import NamedConfig
from ssl_zoo.errors import UserError
from ssl_zoo.evaluators.base import EVALUATORS, Evaluator, Features, Scores
from ssl_zoo.evaluators.checks import check_features, check_labels
from ssl_zoo.evaluators.clusters.cohesion import balance, cluster_sizes, silhouette
from ssl_zoo.evaluators.clusters.points import Points
from ssl_zoo.evaluators.clusters.spherical import cluster_directions, nearest_direction
from ssl_zoo.evaluators.scoring import described
from ssl_zoo.evaluators.search.exact import unit_rows

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]

VERSION = 1
"""Version of the rules below, increased when a change affects scores."""


Factor = Annotated[float, Field(gt=0, le=1000)]


@EVALUATORS.register
class Clustering(Evaluator):
    """Agreement between classes and spherical k-means clusters of the test features.

    Scores are in percent, each the mean over `n_seeds` clusterings with its spread in `NAME_std`
    (omitted for one seed): `nmi` and `ami` (arithmetic average), `ari`, `purity`, and, with as
    many clusters as classes, `accuracy` under the best one-to-one assignment. Two scores use no
    classes: `balance` (entropy of cluster sizes divided by its maximum) and `silhouette` (mean
    over all images, distance 1 - cosine). `nmi` and `purity` grow with the number of clusters:
    compare them at equal `over_cluster`.
    """

    class Config(NamedConfig):
        """Settings of clustering."""

        shorthand: ClassVar[str | None] = "fit"
        LATER: ClassVar[frozenset[str]] = frozenset({"memory_mb"})

        name: Literal["clustering"] = "clustering"
        fit: Literal["test", "train"] = "test"
        """Split to fit the clusters to. Since no labels are used, the literature fits and scores
        the same images, which is also cheaper; `train` tests whether clusters generalise."""
        over_cluster: Factor | tuple[Factor, ...] = 1.0
        """Number of clusters per class of the test split; the product is rounded. For several
        factors, such as `[1, 5]`, scores are named `nmi@x1`, `nmi@x5`."""
        n_seeds: int = Field(default=5, ge=1, le=1000)
        """Number of clusterings to average over."""
        n_restarts: int = Field(default=5, ge=1, le=1000)
        """Number of random starts per clustering; the one with the best objective is kept."""
        n_iterations: int = Field(default=25, ge=1, le=10_000)
        """Number of k-means iterations per start."""
        memory_mb: int | None = Field(default=None, ge=1)
        """Memory for normalised features of the train split, 2000 MB by default; more are read from the
        cache in each iteration. Scores are the same unless a cluster gets empty, which is then split by
        other code; they differ by as much as between random starts."""

        @field_validator("over_cluster", mode="before")
        @classmethod
        def _one_or_several(cls, value: Any) -> Any:
            """Validates the type with one error message instead of one per alternative."""
            several = isinstance(value, list | tuple)
            try:
                factors = tuple(float(one) for one in (value if several else (value,)))
            except (TypeError, ValueError):
                raise ValueError(f"{value!r} is not a number or a list of numbers") from None
            if not factors or not all(0 < one <= 1000 for one in factors):
                raise ValueError(
                    f"{value!r} should be one or more numbers above 0 and at most 1000"
                )
            if len({f"{one:g}" for one in factors}) < len(factors):
                raise ValueError(f"{value!r} contains a factor twice; list each once")
            return factors if several else factors[0]

    config: Config
    labelled = ("test",)

    def evaluate(self, train: Features, test: Features, *, seed: int = 0) -> Scores:
        """Returns the agreement between classes and clusters of `test`.

        Raises:
            UserError: features are empty, not finite or of different sizes; test labels are missing,
                negative or all the same; there are more clusters than features.
        """
        check_features("clustering", train=train, test=test)
        _, classes = np.unique(check_labels("clustering", "test", test), return_inverse=True)
        points = unit_rows(test.values)
        fit = Points(points)
        if self.config.fit == "train":
            fit = Points.of(train.values, self.config.memory_mb)
        factors = self.config.over_cluster
        several = isinstance(factors, tuple)
        counts = {
            f"@x{factor:g}" if several else "": self._n_clusters(factor, classes, len(fit))
            for factor in (factors if isinstance(factors, tuple) else (factors,))
        }
        values: dict[str, float] = {}
        details: dict[str, Any] = {}
        for mark, n_clusters in counts.items():
            found = [
                self._clustering(fit, points, n_clusters, one)
                for one in _seeds(seed, self.config.n_seeds)
            ]
            runs = [cluster_scores(points, classes, each, n_clusters=n_clusters) for each in found]
            values |= _mean_and_std(runs, mark)
            details[f"sizes{mark}"] = np.sort(cluster_sizes(found[0], n_clusters))[::-1].tolist()
        n_clusters_told = [*counts.values()] if several else counts[""]
        return Scores(
            values=values,
            intervals={},
            protocol={**self._protocol(), "n_clusters": n_clusters_told},
            headline=f"nmi{next(iter(counts))}",
            details=details,
        )

    def _clustering(self, fit: Points, points: Floats, n_clusters: int, seed: int) -> Labels:
        centroids = cluster_directions(
            fit,
            n_clusters=n_clusters,
            n_iterations=self.config.n_iterations,
            n_restarts=self.config.n_restarts,
            seed=seed,
        )
        return nearest_direction(points, centroids)[0]

    def _n_clusters(self, factor: float, classes: Labels, n_points: int) -> int:
        n_classes = int(classes.max()) + 1
        n_clusters = round(n_classes * factor)
        if n_clusters < 2:
            raise UserError(
                f"over_cluster of {factor:g} gives {n_clusters} clusters for "
                f"{n_classes} classes; at least 2 are needed, raise over_cluster"
            )
        if n_clusters > n_points:
            raise UserError(
                f"{n_clusters} clusters cannot be fitted to the {n_points} features of the "
                f"{self.config.fit} split; lower over_cluster or use more images"
            )
        return n_clusters

    def _protocol(self) -> dict[str, Any]:
        settings = self.config.model_dump(mode="json", exclude={"memory_mb"})
        return described(
            "clustering", {**settings, "name": "spherical-kmeans", "version": VERSION}
        )


def cluster_scores(
    points: Floats, classes: Labels, clusters: Labels, *, n_clusters: int
) -> dict[str, float]:
    """Returns the scores of `agreement`, then balance and silhouette, in percent.

    Args:
        points: rows of length one, or zeros, `(N, D)`.
        classes: as in `agreement`.
        clusters: as in `agreement`.
    """
    return {
        **agreement(classes, clusters, n_clusters=n_clusters),
        "balance": 100 * balance(cluster_sizes(clusters, n_clusters)),
        "silhouette": 100 * silhouette(points, clusters, n_clusters),
    }


def agreement(classes: Labels, clusters: Labels, *, n_clusters: int) -> dict[str, float]:
    """Returns nmi, ami, ari, purity and, with as many clusters as classes, accuracy, in percent.

    Args:
        classes: from 0, each occurring at least once, `(N,)`.
        clusters: from 0 to `n_clusters - 1`, `(N,)`; some may be empty.
    """
    from sklearn import metrics

    table = contingency(classes, clusters, n_clusters=n_clusters)
    scores = {
        "nmi": metrics.normalized_mutual_info_score(
            classes, clusters, average_method="arithmetic"
        ),
        "ami": metrics.adjusted_mutual_info_score(classes, clusters, average_method="arithmetic"),
        "ari": metrics.adjusted_rand_score(classes, clusters),
        "purity": table.max(axis=0).sum() / len(classes),
    }
    if table.shape[0] == n_clusters:
        scores["accuracy"] = hungarian_accuracy(table)
    return {name: 100 * float(score) for name, score in scores.items()}


def contingency(classes: Labels, clusters: Labels, *, n_clusters: int) -> Labels:
    """Counts images by class and cluster, `(n_classes, n_clusters)`."""
    n_classes = int(classes.max()) + 1
    counts = np.bincount(classes * n_clusters + clusters, minlength=n_classes * n_clusters)
    return counts.reshape(n_classes, n_clusters)


def hungarian_accuracy(table: Labels) -> float:
    """Returns the accuracy of the best one-to-one assignment of clusters to classes.

    Images of unassigned clusters or classes count as wrong.
    """
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(table, maximize=True)
    return float(table[rows, columns].sum() / table.sum())


def _seeds(seed: int, n: int) -> list[int]:
    """Returns unrelated seeds, so runs with adjacent seeds share no clustering."""
    return [int(word) >> 1 for word in np.random.SeedSequence(seed).generate_state(n)]


def _mean_and_std(runs: list[dict[str, float]], mark: str) -> dict[str, float]:
    columns = {f"{name}{mark}": [run[name] for run in runs] for name in runs[0]}
    values = {name: float(np.mean(column)) for name, column in columns.items()}
    if len(runs) > 1:
        values |= {
            f"{name}_std": float(np.std(column, ddof=1)) for name, column in columns.items()
        }
    return values
