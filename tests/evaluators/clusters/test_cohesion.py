import math

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics

from ssl_zoo.evaluators.clusters import cohesion
from ssl_zoo.evaluators.clusters.cohesion import balance, cluster_sizes, silhouette
from ssl_zoo.evaluators.search.exact import unit_rows


def case(
    n: int = 200, n_clusters: int = 6, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    generator = np.random.default_rng(seed)
    clusters = generator.integers(0, n_clusters, n)
    values = np.eye(8)[clusters] + 0.5 * generator.standard_normal((n, 8))
    return unit_rows(values.astype(np.float32)), clusters


def by_scikit_learn(points: NDArray[np.float32], clusters: NDArray[np.int64]) -> float:
    return float(metrics.silhouette_score(points.astype(np.float64), clusters, metric="cosine"))


def by_pairs(points: NDArray[np.float32], clusters: NDArray[np.int64]) -> float:
    """The definition, point by point."""
    x = points.astype(np.float64)
    found = []
    for i, own in enumerate(clusters):
        if (clusters == own).sum() == 1:
            found.append(0.0)
            continue
        others = np.arange(len(x)) != i
        a = np.mean([1 - x[i] @ x[j] for j in np.flatnonzero(others & (clusters == own))])
        b = min(
            np.mean([1 - x[i] @ x[j] for j in np.flatnonzero(clusters == other)])
            for other in set(clusters.tolist()) - {own}
        )
        found.append((b - a) / max(a, b))
    return float(np.mean(found))


@pytest.mark.parametrize("seed", range(3))
def test_silhouette_is_that_of_scikit_learn(seed: int) -> None:
    points, clusters = case(seed=seed)
    assert silhouette(points, clusters, 6) == pytest.approx(
        by_scikit_learn(points, clusters), abs=1e-6
    )


def test_silhouette_is_that_of_the_definition() -> None:
    points, clusters = case(n=40)
    assert silhouette(points, clusters, 6) == pytest.approx(by_pairs(points, clusters), abs=1e-6)


def test_blocks_give_the_same_silhouette(monkeypatch: pytest.MonkeyPatch) -> None:
    points, clusters = case()
    whole = silhouette(points, clusters, 6)
    monkeypatch.setattr(cohesion, "_BLOCK", 8 * 7)
    assert silhouette(points, clusters, 6) == pytest.approx(whole, abs=1e-9)


def test_a_point_alone_and_an_empty_cluster_count_as_in_scikit_learn() -> None:
    points, clusters = case(n=50, n_clusters=3)
    clusters[clusters == 1] = 4  # 1 is empty
    clusters[7] = 5
    assert silhouette(points, clusters, 9) == pytest.approx(
        by_scikit_learn(points, clusters), abs=1e-6
    )


def test_zeros_are_at_distance_one_as_in_scikit_learn() -> None:
    points, clusters = case(n=50, n_clusters=3)
    points[::9] = 0
    assert silhouette(points, clusters, 3) == pytest.approx(
        by_scikit_learn(points, clusters), abs=1e-6
    )


def test_equal_points_have_no_silhouette() -> None:
    points = unit_rows(np.ones((30, 7), np.float32))
    assert silhouette(points, np.arange(30) % 3, 3) == 0.0


def test_one_cluster_has_no_silhouette() -> None:
    points, _ = case(n=20)
    assert silhouette(points, np.full(20, 2), 5) == 0.0


def test_opposite_clusters_have_the_largest_silhouette() -> None:
    points = unit_rows(np.array([[1, 0]] * 4 + [[-1, 0]] * 4, dtype=np.float32))
    assert silhouette(points, np.arange(8) // 4, 2) == pytest.approx(1.0)


def test_balance_is_the_entropy_over_its_largest_value() -> None:
    assert balance(np.array([1, 1, 2])) == pytest.approx(1.5 * math.log(2) / math.log(3))


@pytest.mark.parametrize(("sizes", "expected"), [([5, 5, 5], 1.0), ([15, 0, 0], 0.0)])
def test_balance_runs_from_all_in_one_to_equal_sizes(sizes: list[int], expected: float) -> None:
    assert balance(np.array(sizes)) == pytest.approx(expected, abs=1e-12)


def test_sizes_count_empty_clusters() -> None:
    assert cluster_sizes(np.array([0, 2, 2]), 4).tolist() == [1, 0, 2, 0]
