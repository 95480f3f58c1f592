import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ssl_zoo.evaluators.search import distances, exact, faiss_import, flat, products
from ssl_zoo.evaluators.search.exact import nearest, unit_rows


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
    monkeypatch.setattr(exact, "CHUNK_BYTES", 4 * 16 * 37)
    monkeypatch.setattr(products, "SCANNED_ROWS", 16)
    monkeypatch.setattr(products, "BLOCK_BYTES", 16 * 16 * 4)
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


def by_distance(
    train: NDArray[np.float32], test: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Sorts all train features by float64 distance rounded to float32, ties by index."""
    a, b = test.astype(np.float64), train.astype(np.float64)
    found = np.sqrt(((a[:, None] - b) ** 2).sum(axis=2)).astype(np.float32)
    order = np.argsort(found, axis=1, kind="stable")
    return np.take_along_axis(found, order, 1), order


def assert_by_distance(train: NDArray[np.float32], test: NDArray[np.float32], k: int) -> None:
    sims, ids = nearest(train, test, k=k, metric="euclidean")
    found, order = by_distance(train, test)
    np.testing.assert_array_equal(ids, order[:, :k])
    np.testing.assert_allclose(-sims, found[:, :k], rtol=3e-7)


@pytest.mark.parametrize("k", [1, 7, 100, 299, 300])
def test_distances_are_those_of_a_full_sort(k: int) -> None:
    assert_by_distance(gaussian(300, 24, 0), gaussian(50, 24, 1), k)


@pytest.mark.parametrize("n_queries", [1, 30])
@pytest.mark.parametrize("k", [1, 5, 120, 499])
def test_lowest_indices_win_ties_of_distances(k: int, n_queries: int) -> None:
    assert_by_distance(signs(500, 0), signs(n_queries, 1), k)


@pytest.mark.parametrize("k", [1, 5, 120])
def test_small_chunks_find_the_same_distances(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "CHUNK_BYTES", 4 * 16 * 37 * 3)
    monkeypatch.setattr(distances, "BLOCK_BYTES", 16 * 37 * 4)
    assert_by_distance(signs(500, 0), signs(30, 1), k)


def test_distances_far_from_the_origin_keep_their_digits() -> None:
    """In float32, |x|^2 + |y|^2 - 2 x.y of these has no digit of the distances, about 1e-2."""
    train, test = 1e-3 * gaussian(300, 24, 0) + 100, 1e-3 * gaussian(20, 24, 1) + 100
    assert_by_distance(train.astype(np.float32), test.astype(np.float32), 7)


def test_distances_among_far_groups_keep_their_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """No origin is near to all, so the bound fails and all distances are computed in float64."""
    scans = []
    scan = distances._scan

    def counted(*args: Any, **settings: Any) -> Any:
        scans.append(len(args[1]))
        return scan(*args, **settings)

    monkeypatch.setattr(distances, "_scan", counted)
    places = 1000 * np.repeat(np.eye(3, 24), 100, axis=0)
    train = (places + 1e-2 * gaussian(300, 24, 0)).astype(np.float32)
    test = (places[::15] + 1e-2 * gaussian(20, 24, 1)).astype(np.float32)
    assert_by_distance(train, test, 7)
    assert scans


def test_ordinary_distances_need_no_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distances, "_scan", lambda *a, **b: pytest.fail("scanned"))
    assert_by_distance(gaussian(2000, 64, 0), gaussian(20, 64, 1), 5)


@pytest.mark.parametrize("scale", [1e-25, 1e15])
def test_distances_neither_overflow_nor_vanish(scale: float) -> None:
    train, test = gaussian(100, 8, 0), gaussian(20, 8, 1)
    assert_by_distance((scale * train).astype(np.float32), (scale * test).astype(np.float32), 5)


def test_equal_features_have_distance_zero() -> None:
    train = 100 * gaussian(200, 16, 0)
    train[50:100] = train[:50]
    sims, ids = nearest(train, train[:50], k=2, metric="euclidean")
    np.testing.assert_array_equal(sims, 0)
    np.testing.assert_array_equal(ids, np.stack([np.arange(50), np.arange(50, 100)], axis=1))


def test_distances_of_directions_do_not_see_the_length() -> None:
    train, test = gaussian(200, 16, 0), gaussian(20, 16, 1)
    found = nearest(100 * train, test, k=5, metric="euclidean", unit=True)
    expected = nearest(unit_rows(train), unit_rows(test), k=5, metric="euclidean")
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_allclose(found[0], expected[0], atol=1e-6)


def test_dot_products_are_those_of_a_full_sort() -> None:
    train, test = 3 * gaussian(300, 24, 0), gaussian(50, 24, 1)
    sims, ids = nearest(train, test, k=9, metric="dot")
    exact = test.astype(np.float64) @ train.T.astype(np.float64)
    np.testing.assert_array_equal(ids, np.argsort(-exact, axis=1, kind="stable")[:, :9])
    np.testing.assert_allclose(sims, -np.sort(-exact, axis=1)[:, :9], rtol=1e-5)


@pytest.mark.parametrize(("n", "d", "k"), [(10_000, 512, 20), (1_000_000, 256, 200), (100, 8, 1)])
@pytest.mark.parametrize("memory_mb", [128, 500, 2000])
def test_parts_that_are_worked_on_fit_the_budget(n: int, d: int, k: int, memory_mb: int) -> None:
    rows, chunk = exact._split_budget((n, d), k, "cosine", "fp32", memory_mb)
    used = rows * (4 * d + 3 * 12 * (k + 1)) + chunk
    assert used + exact.OVERHEAD_BYTES["fp32"] + flat.BLOCK_BYTES <= memory_mb * 10**6
    assert rows >= min(n, 1000)


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_a_budget_changes_no_neighbour(metric: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = signs(500, 0), signs(30, 1)
    whole = nearest(train, test, k=9, metric=metric)
    budget = (7, 4 * 16 * 61)  # 7 test features, and 61 train features, at a time
    monkeypatch.setattr(exact, "_split_budget", lambda *_: budget)
    for part, expected in zip(
        nearest(train, test, k=9, metric=metric, memory_mb=500), whole, strict=True
    ):
        np.testing.assert_array_equal(part, expected)


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_a_memory_map_is_read_and_let_go_of(metric: Any, tmp_path: Path) -> None:
    train, test = gaussian(50_000, 64, 0), gaussian(10, 64, 1)
    np.save(tmp_path / "train.npy", train)
    mapped = np.load(tmp_path / "train.npy", mmap_mode="r")
    found = nearest(mapped, test, k=5, metric=metric)
    np.testing.assert_array_equal(found[1], nearest(train, test, k=5, metric=metric)[1])
    if Path("/proc/self/smaps").exists():
        lines = Path("/proc/self/smaps").read_text().splitlines()
        place = next(i for i, line in enumerate(lines) if line.endswith("train.npy"))
        resident = next(line for line in lines[place:] if line.startswith("Rss:"))
        assert int(resident.split()[1]) < 1000  # kilobytes, of 12 800


def test_a_gpu_is_that_of_the_rank_and_its_resources_are_made_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The calls; what a GPU answers cannot be tested without one."""
    real = faiss_import.faiss()
    calls, made = [], []

    def knn_gpu(res: Any, queries: Any, chunk: Any, k: int, *, metric: Any, device: int) -> Any:
        calls.append((res, device))
        return real.knn(queries, chunk, k, metric)

    def resources() -> str:
        made.append(1)
        return "resources"

    fake = SimpleNamespace(
        METRIC_INNER_PRODUCT=real.METRIC_INNER_PRODUCT,
        StandardGpuResources=resources,
        get_num_gpus=lambda: 8,
        knn_gpu=knn_gpu,
    )
    train, test = gaussian(300, 24, 0), gaussian(50, 24, 1)
    expected = nearest(train, test, k=7)
    monkeypatch.setattr(flat, "_faiss", lambda: fake)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(exact, "CHUNK_BYTES", 4 * 24 * 100)
    flat.gpu_resources.cache_clear()
    np.testing.assert_array_equal(nearest(train, test, k=7)[1], expected[1])
    flat.gpu_resources.cache_clear()
    assert (calls, made) == ([("resources", 3)] * 3, [1])


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_unit_rows_neither_overflow_nor_vanish(scale: float) -> None:
    rows = unit_rows(np.float32(scale) * np.array([[3, 4]], dtype=np.float32))
    np.testing.assert_allclose(rows, [[0.6, 0.8]], rtol=1e-6)


def test_evaluators_are_listed_without_importing_heavy_libraries() -> None:
    code = (
        "import sys, ssl_zoo.evaluators;"
        "print(*{'faiss', 'sklearn', 'scipy'} & {name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_distances_decide_among_neighbours_that_are_hardly_apart() -> None:
    generator = np.random.default_rng(0)
    base = np.where(np.arange(400)[:, None] % 2 == 0, 1.0, -1.0) * np.ones((400, 2))
    train = (base + 3e-7 * generator.standard_normal((400, 2))).astype(np.float32)
    test = (base[:40] + 3e-7 * generator.standard_normal((40, 2))).astype(np.float32)
    exact = np.linalg.norm(test[:, None].astype(np.float64) - train, axis=2)
    found, _ = nearest(train, test, k=5, metric="euclidean")
    np.testing.assert_allclose(-found, np.sort(exact, axis=1)[:, :5], rtol=1e-6)
