"""Features on disk: computed once, whole after any interruption, never those of something else."""

import json
import logging
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from ssl_zoo.errors import UserError
from ssl_zoo.evaluation import cache
from ssl_zoo.evaluation.cache import Block, CachedFeatures, cache_folder
from ssl_zoo.evaluation.features import extract
from ssl_zoo.evaluation.view import ViewSpec
from ssl_zoo.evaluators.base import Features
from tests.distributed import run_on_ranks
from tests.evaluation.test_features import Images, Means

FACTS = {"weights": "a", "data": "b"}


class Counts(Means):
    """Counts the images it saw, and stops the process as a kill would, after so many."""

    def __init__(self, *, stop_after: int | None = None) -> None:
        super().__init__()
        self.seen, self.stop_after = 0, stop_after

    def forward(self, images: Tensor) -> Tensor:
        if self.stop_after is not None and self.seen >= self.stop_after:
            raise KeyboardInterrupt
        self.seen += len(images)
        return super().forward(images)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "BLOCK_ROWS", 4)


def run(network: nn.Module, dataset: Images, cached: CachedFeatures | None) -> Features:
    return extract(network, dataset, ViewSpec(8), batch_size=2, cached=cached)


def same(ours: Features, theirs: Features) -> bool:
    pairs = ((getattr(one, name) for one in (ours, theirs)) for name in Features.__annotations__)
    return all(np.array_equal(a, b) if a is not None else b is None for a, b in pairs)


def test_facts_with_tuples_are_those_that_are_read_again(tmp_path: Path) -> None:
    facts = {**FACTS, "value_range": (0.0, 255.0)}
    first, again = (run(Counts(), Images(3), CachedFeatures(tmp_path, facts)) for _ in range(2))
    assert same(first, again)


@pytest.mark.parametrize(
    ("n", "broken"), [(1, ()), (4, ()), (11, ()), (11, (0, 5, 10)), (11, (4, 5, 6, 7))]
)
def test_cached_features_are_those_in_memory(
    n: int, broken: tuple[int, ...], tmp_path: Path
) -> None:
    images = Images(n, broken=broken)
    expected = run(Means(), images, None)
    for _ in range(2):  # written, and read again
        assert same(run(Means(), images, CachedFeatures(tmp_path, FACTS)), expected)


def test_nothing_is_computed_twice(tmp_path: Path) -> None:
    again = Counts()
    run(Means(), Images(11), CachedFeatures(tmp_path, FACTS))
    run(again, Images(11), CachedFeatures(tmp_path, FACTS))
    assert again.seen == 0


def test_whole_features_are_a_memory_map(tmp_path: Path) -> None:
    features = run(Means(), Images(11), CachedFeatures(tmp_path, FACTS))
    assert isinstance(features.values.base, np.memmap) or isinstance(features.values, np.memmap)


def test_a_killed_extraction_resumes_at_its_block(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(Counts(stop_after=6), Images(11), CachedFeatures(tmp_path, FACTS))
    rest = Counts()
    with caplog.at_level(logging.INFO):
        features = run(rest, Images(11), CachedFeatures(tmp_path, FACTS))
    assert rest.seen == 11 - 4
    assert "1 of 3 blocks" in caplog.text
    assert same(features, run(Means(), Images(11), None))


@pytest.mark.parametrize("change", [{"weights": "z"}, {"view": 32}])
def test_features_of_something_else_are_not_taken(change: dict[str, Any], tmp_path: Path) -> None:
    run(Means(), Images(11), CachedFeatures(tmp_path, FACTS))
    other = Counts()
    run(other, Images(11), CachedFeatures(tmp_path, {**FACTS, **change}))
    assert other.seen == 11


def test_a_folder_under_the_name_of_another_is_an_error(tmp_path: Path) -> None:
    here, other = CachedFeatures(tmp_path, FACTS), CachedFeatures(tmp_path, {"weights": "z"})
    run(Means(), Images(11), here)
    shutil.move(here.path, other.path)
    with pytest.raises(UserError, match="another checkpoint, data set or view.*remove the folder"):
        run(Means(), Images(11), other)


@pytest.mark.parametrize("name", ["values.npy", "images.npz", "features.json"])
@pytest.mark.parametrize("keep", [0, 20])
def test_a_cut_off_file_is_made_again(
    name: str, keep: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cached = CachedFeatures(tmp_path, FACTS)
    expected = run(Means(), Images(11), None)
    run(Means(), Images(11), cached)
    file = cached.path / name
    file.write_bytes(file.read_bytes()[:keep])
    again = Counts()
    assert same(run(again, Images(11), cached), expected)
    assert again.seen == 11
    assert f"'{cached.path}' are damaged" in caplog.text
    assert same(run(Counts(stop_after=0), Images(11), cached), expected)


@pytest.mark.parametrize("keep", [0, 20])
def test_a_cut_off_block_is_made_again(keep: int, tmp_path: Path) -> None:
    cached = CachedFeatures(tmp_path, FACTS)
    with pytest.raises(KeyboardInterrupt):
        run(Counts(stop_after=10), Images(11), cached)
    marker = cached.path / "blocks-4" / "000001.npz"
    marker.write_bytes(marker.read_bytes()[:keep])
    rest = Counts()
    assert same(run(rest, Images(11), cached), run(Means(), Images(11), None))
    assert rest.seen == 11 - 4


def test_a_block_whose_values_a_power_failure_took_is_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Values are not flushed to the disk block by block: zeros may be left of them."""
    cached = CachedFeatures(tmp_path, FACTS)
    with pytest.raises(KeyboardInterrupt):
        run(Counts(stop_after=10), Images(11), cached)
    values = np.load(cached.path / "values.npy", mmap_mode="r+")
    values[4:8] = 0
    values.flush()
    rest = Counts()
    assert same(run(rest, Images(11), cached), run(Means(), Images(11), None))
    assert rest.seen == 11 - 4
    assert "000001.npz' is damaged and is made again" in caplog.text


def test_values_are_on_disk_before_features_are_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached, synced = CachedFeatures(tmp_path, FACTS), list[tuple[str, bool]]()
    fsync = os.fsync

    def note(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").resolve().name
        synced.append((name, (cached.path / "features.json").exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    run(Means(), Images(40), cached)
    assert ("values.npy", False) in synced
    assert ("images.npz", False) in synced
    assert len(synced) < 10  # not for each of ten blocks


def test_a_cut_off_file_of_values_is_made_again(tmp_path: Path) -> None:
    cached = CachedFeatures(tmp_path, FACTS)
    with pytest.raises(KeyboardInterrupt):
        run(Counts(stop_after=10), Images(11), cached)
    (cached.path / "values.npy").write_bytes(b"")
    assert same(run(Means(), Images(11), cached), run(Means(), Images(11), None))


def test_images_that_can_be_read_again_are_added(tmp_path: Path) -> None:
    cached = CachedFeatures(tmp_path, FACTS)
    run(Means(), Images(11, broken=(2, 9)), cached)
    for broken, computed in (((9,), 4 + 2), ((9,), 0), ((), 3), ((), 0)):
        rest = Counts()
        images = Images(11, broken=broken)
        assert same(run(rest, images, cached), run(Means(), images, None))
        assert rest.seen == computed


def test_images_that_can_be_read_again_are_added_to_a_part(tmp_path: Path) -> None:
    cached = CachedFeatures(tmp_path, FACTS)
    with pytest.raises(KeyboardInterrupt):
        run(Counts(stop_after=8), Images(11, broken=(2,)), cached)
    assert same(run(Means(), Images(11), cached), run(Means(), Images(11), None))


class _Changing(Images):
    def refuse_changes(self) -> None:
        raise UserError("changed")


def test_features_of_images_that_changed_meanwhile_are_discarded(tmp_path: Path) -> None:
    cached = CachedFeatures(tmp_path, FACTS)
    with pytest.raises(UserError, match="changed"):
        run(Means(), _Changing(11), cached)
    again = Counts()
    run(again, Images(11), cached)
    assert again.seen == 11


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UserError, match=r"no space left on device.*make room"):
        run(Means(), Images(11), CachedFeatures(tmp_path, FACTS))
    assert not [*tmp_path.rglob("*values*")]  # nothing is left that fills it


def test_a_folder_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    with pytest.raises(UserError, match="choose another folder"):
        run(Means(), Images(11), CachedFeatures(tmp_path / "cache", FACTS))


def test_only_broken_images_are_an_error_each_time(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(UserError, match="none of the 2 images can be decoded"):
            run(Means(), Images(2, broken=(0, 1)), CachedFeatures(tmp_path, FACTS))


def test_the_folder_says_what_it_holds(tmp_path: Path) -> None:
    cached = CachedFeatures(tmp_path, FACTS)
    run(Means(), Images(11), cached)
    assert json.loads((cached.path / "features.json").read_text()) == {**FACTS, "version": 1}
    assert {path.name for path in cached.path.glob("[!.]*")} == {
        "features.json", "values.npy", "images.npz",
    }  # fmt: skip


def test_two_writers_of_the_same_block_agree(tmp_path: Path) -> None:
    first, second = CachedFeatures(tmp_path, FACTS), CachedFeatures(tmp_path, FACTS)
    block = Block(np.ones((3, 2), np.float32), np.ones(3, np.bool_), np.zeros(3, np.uint64))
    for cached in (first, second):
        cached.missing(3, 4)
    for cached in (first, second):
        cached.write(0, 4, 3, block)
    for cached in (first, second):
        cached.finish(1, 4)
    assert second.open().values.tolist() == block.values.tolist()


def test_the_user_says_where(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSL_ZOO_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("SSL_ZOO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "ssl-zoo" / "features"


def _cached_here(folder: str, n: int, broken: tuple[int, ...]) -> tuple[Features, int]:
    cache.BLOCK_ROWS = 4
    network = Counts()
    features = run(network, Images(n, broken=broken), CachedFeatures(folder, FACTS))
    return replace(features, values=np.array(features.values)), network.seen


@pytest.mark.distributed
@pytest.mark.parametrize(("n", "broken"), [(11, ()), (3, ()), (11, (4, 5, 6, 7))])
def test_two_ranks_share_the_blocks(n: int, broken: tuple[int, ...], tmp_path: Path) -> None:
    alone = run(Means(), Images(n, broken=broken), None)
    found = run_on_ranks(_cached_here, 2, str(tmp_path), n, broken)
    assert all(same(features, alone) for features, _ in found)
    assert sum(seen for _, seen in found) == n - len(broken)


def digests_of(network: nn.Module, images: Images) -> list[int]:
    found = run(network, images, None).digests
    assert found is not None
    return [int(digest) for digest in found]


def test_equal_views_have_equal_digests() -> None:
    digests = digests_of(Means(), Images(11))
    assert len(set(digests)) == 11
    assert digests[4:] == digests_of(Means(), _Later(7))


class _Later(Images):
    """Images 4, 5, ... of `Images`."""

    def load(self, indices: Tensor) -> list[Tensor | None] | Tensor:
        return super().load(indices + 4)


def test_digests_do_not_depend_on_the_network() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    assert digests_of(flat, Images(5)) == digests_of(Means(), Images(5))


def test_images_that_could_not_be_decoded_count_each_time(tmp_path: Path) -> None:
    run(Means(), Images(6, broken=(2,)), CachedFeatures(tmp_path, FACTS))
    strict = Images(6, broken=(2,))
    strict.max_corrupt = 0
    with pytest.raises(UserError, match="1 of 6 images cannot be decoded"):
        run(Means(), strict, CachedFeatures(tmp_path, FACTS))
