"""Clusters found without labels, compared with classes."""

import hashlib
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ssl_zoo.config import NamedConfig, canonical_json
from ssl_zoo.errors import UserError
from ssl_zoo.evaluators.base import Evaluator, Features, Scores
from ssl_zoo.evaluators.checks import check_features, check_labels
from ssl_zoo.evaluators.search import spherical_kmeans, unit_rows
from ssl_zoo.registries import EVALUATORS

Labels = NDArray[np.int64]

VERSION = 1
"""Counts changes of the rules below that change scores."""


@EVALUATORS.register
class Clustering(Evaluator):
    """Agreement of classes with spherical k-means clusters of the test features.

    Scores in percent, each the mean over `n_seeds` clusterings with its spread in `NAME_std` (none
    for one seed): `nmi` and `ami` (arithmetic average), `ari`, `purity`, and, where there are as
    many clusters as classes, `accuracy` under the best one-to-one assignment. `nmi` and `purity`
    grow with the number of clusters: compare them at equal `over_cluster`.
    """

    class Config(NamedConfig):
        """Settings of clustering."""

        shorthand: ClassVar[str | None] = "fit"

        name: Literal["clustering"] = "clustering"
        fit: Literal["test", "train"] = "test"
        """Split whose features the clusters are fitted to. No label is used, so the literature
        fits and scores the same images, which is also cheaper; `train` tests if clusters carry
        over."""
        over_cluster: float = Field(default=1.0, gt=0, le=1000)
        """Clusters for each class of the test split; the product is rounded."""
        n_seeds: int = Field(default=5, ge=1, le=1000)
        """Clusterings that scores are averaged over."""
        n_restarts: int = Field(default=5, ge=1, le=1000)
        """Random starts of each clustering; the one of best objective is kept."""
        n_iterations: int = Field(default=25, ge=1, le=10_000)
        """Rounds of k-means from each start."""

    config: Config

    def evaluate(self, train: Features, test: Features, *, seed: int = 0) -> Scores:
        """Returns the agreement of classes and clusters of `test`.

        Raises:
            UserError: features are empty, not finite or of two sizes; test labels are missing,
                negative or all the same; there are more clusters than features.
        """
        check_features("clustering", train=train, test=test)
        _, classes = np.unique(check_labels("clustering", "test", test), return_inverse=True)
        points = unit_rows(test.values)
        fit = points if self.config.fit == "test" else unit_rows(train.values)
        n_clusters = self._n_clusters(int(classes.max()) + 1, len(fit))
        runs = [
            agreement(
                classes,
                spherical_kmeans(
                    fit, points,
                    n_clusters=n_clusters,
                    n_iterations=self.config.n_iterations,
                    n_restarts=self.config.n_restarts,
                    seed=one,
                ),
                n_clusters=n_clusters,
            )
            for one in _seeds(seed, self.config.n_seeds)
        ]  # fmt: skip
        return Scores(
            values=_mean_and_std(runs),
            intervals={},
            protocol={**self._protocol(), "n_clusters": n_clusters},
            headline="nmi",
        )

    def _n_clusters(self, n_classes: int, n_points: int) -> int:
        n_clusters = round(n_classes * self.config.over_cluster)
        if n_clusters < 2:
            raise UserError(
                f"over_cluster of {self.config.over_cluster:g} makes {n_clusters} clusters of "
                f"{n_classes} classes; at least 2 are needed, raise it"
            )
        if n_clusters > n_points:
            raise UserError(
                f"{n_clusters} clusters cannot be fitted to the {n_points} features of the "
                f"{self.config.fit} split; lower over_cluster or use more images"
            )
        return n_clusters

    def _protocol(self) -> dict[str, Any]:
        settings = {
            **self.config.model_dump(mode="json"),
            "name": "spherical-kmeans",
            "version": VERSION,
        }
        digest = hashlib.sha256(canonical_json(settings).encode()).hexdigest()[:12]
        return {"evaluator": "clustering", **settings, "digest": digest}


def agreement(classes: Labels, clusters: Labels, *, n_clusters: int) -> dict[str, float]:
    """Returns nmi, ami, ari, purity and, for as many clusters as classes, accuracy, in percent.

    Args:
        classes: from 0, each at least once, `(N,)`.
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
    """Returns the share of images that the best one-to-one assignment of clusters puts right.

    Images of clusters or classes that are left over count as wrong.
    """
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(table, maximize=True)
    return float(table[rows, columns].sum() / table.sum())


def _seeds(seed: int, n: int) -> list[int]:
    """Returns unrelated seeds, so that runs of neighbouring seeds share no clustering."""
    return [int(word) >> 1 for word in np.random.SeedSequence(seed).generate_state(n)]


def _mean_and_std(runs: list[dict[str, float]]) -> dict[str, float]:
    columns = {name: [run[name] for run in runs] for name in runs[0]}
    values = {name: float(np.mean(column)) for name, column in columns.items()}
    if len(runs) > 1:
        values |= {
            f"{name}_std": float(np.std(column, ddof=1)) for name, column in columns.items()
        }
    return values
