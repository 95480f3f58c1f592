from pathlib import Path

import numpy as np
import pytest

from ssl_zoo.evaluators.search.mapped import let_go, take


def saved(path: Path, n: int = 5000) -> np.memmap:
    np.save(path, np.random.default_rng(0).standard_normal((n, 7)).astype(np.float32))
    mapped: np.memmap = np.load(path, mmap_mode="r")
    return mapped


ROWS = np.array([4999, 0, 17, 17, 2500])


def test_rows_of_a_map_are_those_of_the_array(tmp_path: Path) -> None:
    mapped = saved(tmp_path / "x.npy")
    np.testing.assert_array_equal(take(mapped, ROWS), np.array(mapped)[ROWS])


def test_rows_of_a_part_of_a_map_are_counted_from_its_start(tmp_path: Path) -> None:
    part = saved(tmp_path / "x.npy", 6000)[1000:]
    np.testing.assert_array_equal(take(part, ROWS), np.array(part)[ROWS])


def test_rows_of_a_map_that_starts_far_into_its_file(tmp_path: Path) -> None:
    values = np.arange(60_000, dtype=np.float32)
    values.tofile(tmp_path / "x")
    mapped = np.memmap(tmp_path / "x", np.float32, "r", offset=4 * 10_000, shape=(5000, 7))
    np.testing.assert_array_equal(take(mapped, ROWS), np.array(mapped)[ROWS])


@pytest.mark.parametrize("columns", [slice(None), slice(2, 5)])
def test_rows_of_other_arrays_are_indexed(columns: slice, tmp_path: Path) -> None:
    plain = np.random.default_rng(0).standard_normal((5000, 7))
    np.testing.assert_array_equal(take(plain, ROWS), plain[ROWS])
    part = saved(tmp_path / "x.npy")[:, columns]
    np.testing.assert_array_equal(take(part, ROWS), np.array(part)[ROWS])


def test_what_was_let_go_of_is_read_again(tmp_path: Path) -> None:
    mapped = saved(tmp_path / "x.npy")
    before = np.array(mapped)
    let_go(mapped)
    np.testing.assert_array_equal(mapped, before)


def test_changes_that_are_not_written_yet_are_kept(tmp_path: Path) -> None:
    saved(tmp_path / "x.npy")
    private = np.load(tmp_path / "x.npy", mmap_mode="c")
    private[0] = 5
    let_go(private)
    np.testing.assert_array_equal(private[0], 5)
