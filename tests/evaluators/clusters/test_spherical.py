from typing import Any

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from ssl_zoo.evaluators.clusters.points import Points
from ssl_zoo.evaluators.clusters.spherical import cluster_directions, nearest_direction
from ssl_zoo.evaluators.search.exact import unit_rows

Floats = NDArray[np.float32]


def directions(n: int, d: int, seed: int) -> Floats:
    return unit_rows(np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32))


def mixture(n: int, d: int, n_modes: int, seed: int) -> Floats:
    """Directions around random ones."""
    generator = np.random.default_rng(seed)
    modes = directions(n_modes, d, seed)[generator.integers(0, n_modes, n)]
    return unit_rows(modes + 0.1 * generator.standard_normal((n, d)).astype(np.float32))


def plain_faiss(points: Floats, n_clusters: int, *, seed: int, n_restarts: int = 1) -> Floats:
    """Centroids of faiss's own k-means on the sphere."""
    found = faiss.Kmeans(
        points.shape[1],
        n_clusters,
        niter=20,
        nredo=n_restarts,
        seed=seed,
        spherical=True,
        min_points_per_centroid=1,
    )
    found.train(points)
    centroids: Any = found.centroids
    return np.asarray(centroids)


def kmeans(points: Floats, n_clusters: int, *, n_restarts: int = 1, seed: int = 0) -> Floats:
    return cluster_directions(
        points, n_clusters=n_clusters, n_iterations=20, n_restarts=n_restarts, seed=seed
    )


def objective(points: Floats, centroids: Floats) -> float:
    """Mean cosine of points and nearest centroids, in float64, centroids put to length one."""
    exact = centroids.astype(np.float64)
    exact /= np.maximum(np.linalg.norm(exact, axis=1, keepdims=True), 1e-30)
    return float((points.astype(np.float64) @ exact.T).max(axis=1).mean())


def lloyd(points: Floats, centroids: NDArray[np.float64], n_rounds: int) -> NDArray[np.float64]:
    """Rounds of spherical k-means as its definition says, point by point, in float64."""
    for _ in range(n_rounds):
        sums = np.zeros_like(centroids)
        for point in points.astype(np.float64):
            sums[np.argmax(centroids @ point)] += point
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        centroids = np.where(norms > 0, sums / np.maximum(norms, 1e-30), centroids)
    return centroids


def test_clusters_of_well_separated_directions_are_found() -> None:
    points = unit_rows(np.repeat(np.eye(4, dtype=np.float32), 25, axis=0))
    points = unit_rows(points + 0.01 * directions(100, 4, 0))
    centroids = kmeans(points, 4, n_restarts=10)
    found = nearest_direction(points, centroids)[0].reshape(4, 25)
    assert (found == found[:, :1]).all()
    assert len(set(found[:, 0])) == 4


def test_centroids_are_where_another_round_leaves_them() -> None:
    points = mixture(200, 6, 5, seed=0)
    centroids = cluster_directions(points, n_clusters=5, n_iterations=100, n_restarts=1, seed=0)
    again = lloyd(points, centroids.astype(np.float64), 1)
    np.testing.assert_allclose(centroids, again, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("n_restarts", [1, 3])
def test_centroids_are_those_of_faiss(seed: int, n_restarts: int) -> None:
    points = mixture(600, 16, 30, seed=seed)
    ours = kmeans(points, 20, n_restarts=n_restarts, seed=seed)
    plain = plain_faiss(points, 20, n_restarts=n_restarts, seed=seed)
    np.testing.assert_allclose(ours, plain, atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_the_objective_is_that_of_faiss_or_better(seed: int) -> None:
    points = directions(500, 12, seed)
    ours = objective(points, kmeans(points, 25, n_restarts=2, seed=seed))
    assert ours >= objective(points, plain_faiss(points, 25, seed=seed)) - 1e-6


def test_an_empty_cluster_is_filled_as_by_faiss() -> None:
    points = unit_rows(np.repeat(directions(6, 4, 0), 10, axis=0))
    np.testing.assert_array_equal(kmeans(points, 8, seed=1), plain_faiss(points, 8, seed=1))


def test_an_empty_cluster_of_points_in_a_file_gets_part_of_a_large_one() -> None:
    """Starts at equal points leave clusters empty. Which of them, differs from faiss, as ties do."""
    points = unit_rows(np.repeat(directions(12, 8, 0), 40, axis=0) + 0.1 * directions(480, 8, 1))
    points = np.concatenate([np.repeat(points[:1], 400, axis=0), points])
    found = cluster_directions(
        Points(points, normalised=False), n_clusters=20, n_iterations=20, n_restarts=1, seed=0
    )
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    used = np.unique(nearest_direction(points, plain_faiss(points, 20, seed=0))[0])
    assert len(np.unique(nearest_direction(points, found)[0])) >= len(used)


def test_restarts_keep_the_clustering_of_largest_cosines() -> None:
    points = directions(400, 6, 0)
    singles = [objective(points, kmeans(points, 20, seed=seed)) for seed in range(10)]
    assert objective(points, kmeans(points, 20, n_restarts=30)) > np.median(singles)


def test_all_points_take_part() -> None:
    rare = np.zeros((600, 3), np.float32)
    rare[:, 0], rare[-1] = 1, (0, 0, 1)  # faiss would take 512 of them on its own
    rare[:300, 1] = 1
    points = unit_rows(rare)
    centroids = kmeans(points, 2, n_restarts=1)
    exact = lloyd(points, centroids.astype(np.float64), 1)
    np.testing.assert_allclose(centroids, exact, atol=1e-6)
    assert centroids[:, 2].max() > 0


def test_the_nearest_centroid_has_the_largest_cosine() -> None:
    points, centroids = directions(70, 12, 0), directions(9, 12, 1)
    exact = points.astype(np.float64) @ centroids.T.astype(np.float64)
    clusters, cosines = nearest_direction(points, centroids)
    np.testing.assert_array_equal(clusters, exact.argmax(axis=1))
    np.testing.assert_allclose(cosines, exact.max(axis=1), atol=1e-6)


def test_as_many_clusters_as_points_are_the_points() -> None:
    points = directions(12, 5, 0)
    clusters, cosines = nearest_direction(points, kmeans(points, 12))
    assert sorted(clusters.tolist()) == list(range(12))
    np.testing.assert_allclose(cosines, 1, atol=1e-6)


@pytest.mark.parametrize(
    "points", [np.ones((50, 4)), np.zeros((50, 4)), np.eye(2)[[0] * 49 + [1]]]
)
def test_fewer_different_points_than_clusters_are_clustered(points: NDArray[np.float64]) -> None:
    unit = unit_rows(points.astype(np.float32))
    centroids = kmeans(unit, 7)
    assert np.isfinite(centroids).all()
    assert objective(unit, centroids) == pytest.approx(float(unit.any()), abs=1e-4)


def test_clustering_says_nothing_about_small_clusters(capfd: pytest.CaptureFixture[str]) -> None:
    kmeans(directions(30, 4, 0), 10, n_restarts=2)
    assert "".join(capfd.readouterr()) == ""


def test_equal_seeds_give_equal_centroids() -> None:
    points = directions(200, 8, 0)
    np.testing.assert_array_equal(kmeans(points, 9, seed=3), kmeans(points, 9, seed=3))
    assert (kmeans(points, 9, seed=3) != kmeans(points, 9, seed=4)).any()


def test_no_seed_is_too_large_for_faiss() -> None:
    points = unit_rows(np.random.default_rng(0).standard_normal((30, 4)).astype(np.float32))
    assert kmeans(points, 3, n_restarts=3, seed=2**31 - 1).shape == (3, 4)
