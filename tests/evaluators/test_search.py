import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from ssl_zoo.evaluators import search
from ssl_zoo.evaluators.search import nearest, spherical_kmeans, unit_rows


def gaussian(n: int, d: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def signs(n: int, seed: int) -> NDArray[np.float32]:
    """Rows of 16 signs: their unit vectors and cosines are exact in float32, so many tie."""
    return (2 * np.random.default_rng(seed).integers(0, 2, (n, 16)) - 1).astype(np.float32)


def all_in_order(train: NDArray[np.float32], test: NDArray[np.float32]) -> NDArray[np.int64]:
    """Sorts all train features for each test feature in float64, ties by index."""
    a, b = test.astype(np.float64), train.astype(np.float64)
    cosines = a @ b.T / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1)
    return np.argsort(-np.round(cosines, 12), axis=1, kind="stable")


@pytest.mark.parametrize("k", [1, 7, 99, 100, 150, 300])
def test_neighbours_are_those_of_a_full_sort(k: int) -> None:
    train, test = gaussian(300, 24, 0), gaussian(50, 24, 1)
    cosines, ids = nearest(train, test, k=k)
    np.testing.assert_array_equal(ids, all_in_order(train, test)[:, :k])
    expected = (unit_rows(test) @ unit_rows(train).T)[np.arange(50)[:, None], ids]
    np.testing.assert_allclose(cosines, expected, atol=1e-6)


@pytest.mark.parametrize("n_queries", [1, 30])  # faiss has another path for few queries
@pytest.mark.parametrize("k", [1, 5, 120, 499])
def test_lowest_indices_win_ties(k: int, n_queries: int) -> None:
    train, test = signs(500, 0), signs(n_queries, 1)
    np.testing.assert_array_equal(nearest(train, test, k=k)[1], all_in_order(train, test)[:, :k])


@pytest.mark.parametrize("k", [1, 5, 120])
def test_small_chunks_find_the_same_neighbours(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = signs(500, 0), signs(30, 1)
    whole = nearest(train, test, k=k)
    monkeypatch.setattr(search, "CHUNK_BYTES", 4 * 16 * 37)
    monkeypatch.setattr(search, "TIE_BYTES", 4 * 500 * 4)
    for part, expected in zip(nearest(train, test, k=k), whole, strict=True):
        np.testing.assert_array_equal(part, expected)


def test_collapsed_features_have_the_first_as_neighbours() -> None:
    cosines, ids = nearest(np.ones((40, 4), np.float32), np.ones((3, 4), np.float32), k=6)
    np.testing.assert_array_equal(ids, np.tile(np.arange(6), (3, 1)))
    np.testing.assert_array_equal(cosines, 1)


def test_more_neighbours_than_features_are_all_of_them() -> None:
    cosines, ids = nearest(gaussian(5, 8, 0), gaussian(2, 8, 1), k=200)
    assert cosines.shape == ids.shape == (2, 5)
    np.testing.assert_array_equal(np.sort(ids, axis=1), np.tile(np.arange(5), (2, 1)))


def test_zeros_have_cosine_zero_with_everything() -> None:
    train = np.array([[1, 0], [0, 0], [-1, 0]], dtype=np.float32)
    cosines, ids = nearest(train, np.array([[2, 0], [0, 0]], dtype=np.float32), k=3)
    np.testing.assert_array_equal(ids, [[0, 1, 2], [0, 1, 2]])
    np.testing.assert_array_equal(cosines, [[1, 0, -1], [0, 0, 0]])


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_unit_rows_neither_overflow_nor_vanish(scale: float) -> None:
    rows = unit_rows(np.float32(scale) * np.array([[3, 4]], dtype=np.float32))
    np.testing.assert_allclose(rows, [[0.6, 0.8]], rtol=1e-6)


def test_clusters_of_well_separated_directions_are_found() -> None:
    centres = np.eye(4, dtype=np.float32)
    points = unit_rows(np.repeat(centres, 25, axis=0) + 0.01 * gaussian(100, 4, 0))
    found = spherical_kmeans(
        points, points, n_clusters=4, n_iterations=10, n_restarts=10, seed=0
    ).reshape(4, 25)
    assert (found == found[:, :1]).all()
    assert len(set(found[:, 0])) == 4


def test_restarts_keep_the_clustering_of_largest_cosines() -> None:
    points = unit_rows(gaussian(400, 6, 0))

    def objective(n_restarts: int, seed: int) -> float:
        found = spherical_kmeans(
            points, points, n_clusters=20, n_iterations=20, n_restarts=n_restarts, seed=seed
        )
        sums = np.zeros((20, 6))
        np.add.at(sums, found, points)
        return float(np.linalg.norm(sums, axis=1).sum())

    singles = [objective(1, seed) for seed in range(10)]
    assert objective(30, 0) > np.median(singles)


def test_clustering_says_nothing_about_small_clusters(capfd: pytest.CaptureFixture[str]) -> None:
    points = unit_rows(gaussian(30, 4, 0))
    spherical_kmeans(points, points, n_clusters=10, n_iterations=5, n_restarts=2, seed=0)
    assert "".join(capfd.readouterr()) == ""


def test_equal_seeds_give_equal_clusters() -> None:
    points = unit_rows(gaussian(200, 8, 0))
    a, b, other = (
        spherical_kmeans(points, points, n_clusters=9, n_iterations=5, n_restarts=1, seed=seed)
        for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(a, b)
    assert (a != other).any()


def test_evaluators_are_listed_without_importing_heavy_libraries() -> None:
    code = (
        "import sys, ssl_zoo.evaluators;"
        "print(*{'faiss', 'sklearn', 'scipy'} & {name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
