import math
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from ssl_zoo import distributed
from ssl_zoo.data import workers
from ssl_zoo.data.workers import Cut, Grant, cut, granted, shared_memory, shortage
from ssl_zoo.errors import UserError

MB = 10**6


def test_no_more_workers_are_granted_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "granted_cores", lambda: {"affinity": 4})
    assert [granted(wanted).num_workers for wanted in (0, 3, 10, None)] == [0, 3, 4, 4]


def test_a_task_of_slurm_has_its_own_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "granted_cores", lambda: {"affinity": 64, "SLURM": 5})
    assert granted(10).num_workers == 5


@pytest.mark.parametrize(("cores", "count"), [(1, 0), (2, 2), (16, 16), (96, 16)])
def test_by_default_there_is_one_worker_for_each_core(
    cores: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "granted_cores", lambda: {"affinity": cores})
    assert granted().num_workers == count


def test_ranks_of_a_machine_share_its_cores_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four ranks, of which two are here; the third runs on cores of its own, the last elsewhere."""
    monkeypatch.setattr(workers, "granted_cores", lambda: {"affinity": 8})
    monkeypatch.setattr(workers, "shared_memory", lambda: 600.0)

    def others(ours: tuple[str, list[int]]) -> list[tuple[str, list[int]]]:
        return [ours, ours, (ours[0], [77]), ("elsewhere", ours[1])]

    monkeypatch.setattr(distributed, "all_gather_object", others)
    assert granted(10) == Grant(4, 200.0)


def test_a_part_of_the_free_shared_memory_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    found = SimpleNamespace(f_bavail=16, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda _: found)
    assert shared_memory() == 0.4 * 65_536


def test_memory_without_a_folder_has_no_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "SHARED_MEMORY", tmp_path / "nowhere")
    assert shared_memory() == math.inf


@pytest.mark.parametrize(
    ("batch_size", "num_workers", "expected"),
    [(64, 2, Cut(64, 2)), (100, 4, Cut(50, 2)), (512, 10, Cut(64, 2)), (512, 2, Cut(64, 8))],
)
def test_two_batches_are_on_their_way(batch_size: int, num_workers: int, expected: Cut) -> None:
    assert cut(batch_size, 1, Grant(num_workers)) == expected
    assert num_workers * expected.ahead * expected.job >= 2 * batch_size


@pytest.mark.parametrize(
    ("num_workers", "memory", "fits"), [(1, MB, False), (10, 64 * MB, False), (10, 640 * MB, True)]
)
def test_what_is_on_its_way_fits_into_shared_memory(
    num_workers: int, memory: float, *, fits: bool
) -> None:
    """SwAV's views of an image have 467 kB; docker gives a container 64 MB."""
    image = 3 * (2 * 224**2 + 6 * 96**2)
    made = cut(512, image, Grant(num_workers, memory))
    assert (num_workers * made.ahead + 1) * made.job * image <= memory
    assert (made.wanted == 0) == fits


def test_a_shortage_is_one_line_that_says_what_to_do() -> None:
    grant = Grant(10, 51.2 * MB)
    said = shortage(cut(512, 467_000, grant), grant)
    assert "10 loader processes need 628 MB" in said
    assert "51 MB of '/dev/shm' can be used" in said
    assert "--shm-size=2g" in said
    assert shortage(cut(512, 467_000, Grant(10)), Grant(10)) == ""


def test_too_little_for_one_image_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"10 loader processes need 5 MB .*num_workers=0, or start"
    ):
        cut(512, 467_000, Grant(10, 3 * MB))
