import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ssl_zoo import distributed
from ssl_zoo.data import fingerprint as prints
from ssl_zoo.data import index
from ssl_zoo.data.base import DATASETS, Dataset
from ssl_zoo.data.image_files import ImageFiles, PathList
from ssl_zoo.data.walk import Walk
from ssl_zoo.errors import UserError
from ssl_zoo.files import locked
from tests.data import folders


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Indexes of small folders, whose fingerprints are those of large ones, in a cache of their own."""
    monkeypatch.setattr(index, "LEAST", 3)
    monkeypatch.setattr(prints, "WHOLE_FILES", 2)
    monkeypatch.setattr(prints, "SAMPLED", 3)
    monkeypatch.setenv("SSL_ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "indexes"


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that were walked through whole."""
    found, levels = list[Path](), Walk.__iter__

    def note(self: Walk) -> Any:
        for number, level in enumerate(levels(self)):
            if number == 1:
                found.append(self.start)
            yield level

    monkeypatch.setattr(Walk, "__iter__", note)
    return found


def settled(root: Path) -> Path:
    """Makes folders look as if they had not changed for a while."""
    for level, _, _ in os.walk(root):
        os.utime(level, (1e9, 1e9))
    return root


def build(root: Path, **settings: Any) -> ImageFiles:
    found: Dataset = DATASETS.build(
        {"name": "image_folder", "root": str(root), **settings}, split="train"
    )
    assert isinstance(found, ImageFiles)
    return found


def names(dataset: Dataset) -> list[str | None]:
    return [dataset.file_name(place) for place in range(len(dataset))]


@pytest.mark.parametrize("settings", [{}, {"labels": "none"}, {"test": "25%"}])
def test_a_second_start_reads_the_same_without_a_walk(
    settings: dict[str, str], tmp_path: Path, walks: list[Path]
) -> None:
    root = settled(folders.two_classes(tmp_path / "images", 8))
    first = build(root, **settings)
    assert len(walks) == 1
    second = build(root, **settings)
    assert len(walks) == 1
    assert names(second) == names(first)
    assert second.class_names == first.class_names
    assert second.listing == first.listing
    assert second.fingerprint == first.fingerprint
    if first.labels is not None:
        assert second.labels is not None
        assert torch.equal(second.labels, first.labels)
    image = second.load(torch.tensor([2]))[0]
    assert image is not None


def test_fingerprints_are_kept_with_the_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = settled(folders.two_classes(tmp_path / "images", 8))
    first = build(root).fingerprint
    asked = list[int]()
    stats_of = prints.stats_of

    def note(paths: Sequence[Path]) -> NDArray[np.int64]:
        asked.append(len(paths))
        return stats_of(paths)

    monkeypatch.setattr(prints, "stats_of", note)
    assert build(root).fingerprint == first
    assert asked == [3]  # the sampled files


@pytest.mark.parametrize("what", ["added", "removed", "renamed", "new class"])
def test_a_changed_folder_is_walked_through_again(
    what: str, tmp_path: Path, walks: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    root = settled(folders.two_classes(tmp_path / "images"))
    first, cat = build(root), root / "train" / "cat"
    if what == "added":
        folders.write(cat / "new.png", 0)
    elif what == "removed":
        (cat / "0.png").unlink()
    elif what == "renamed":
        (cat / "0.png").rename(cat / "x.png")
    else:
        folders.write(root / "train" / "fish" / "0.png", 0)
    with caplog.at_level(logging.INFO):
        assert names(build(root)) != names(first)
    assert len(walks) == 2
    assert "has changed; it is walked through again" in caplog.text


def test_a_sampled_file_that_was_overwritten_changes_the_fingerprint(tmp_path: Path) -> None:
    root = settled(folders.two_classes(tmp_path / "images"))
    first = build(root).fingerprint
    folders.write(root / "train" / "cat" / "0.png", 77)
    assert build(root).fingerprint != first
    assert build(root).fingerprint == build(root).fingerprint


def test_caches_of_an_indexed_folder_notice_every_file_that_is_overwritten(tmp_path: Path) -> None:
    root = settled(folders.two_classes(tmp_path / "images"))
    first = build(root)
    assert first.fingerprint
    folders.write(root / "train" / "cat" / "2.png", 77)  # not sampled
    again = build(root)
    assert again.cache_key != first.cache_key
    again.refuse_changes()
    assert build(root).cache_key == again.cache_key
    with pytest.raises(UserError, match="1 of 8 images changed"):
        first.refuse_changes()


def test_a_folder_that_has_just_changed_has_no_index(tmp_path: Path, walks: list[Path]) -> None:
    root = folders.two_classes(tmp_path / "images")
    build(root)
    build(root)
    assert len(walks) == 2


@pytest.mark.parametrize("name", ["names.bin", "ends.npy", "labels.npy"])
def test_a_damaged_index_is_made_again(
    name: str, tmp_path: Path, cache: Path, walks: list[Path]
) -> None:
    root = settled(folders.two_classes(tmp_path / "images"))
    first = names(build(root))
    (damaged,) = cache.glob(f"*/{name}")
    damaged.write_bytes(damaged.read_bytes()[:9])
    assert names(build(root)) == first
    assert names(build(root)) == first
    assert len(walks) == 2


def test_a_cache_that_cannot_be_written_is_only_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SSL_ZOO_CACHE", str(tmp_path / "file"))
    assert len(build(settled(folders.two_classes(tmp_path / "images")))) == 8
    assert "no index of" in caplog.text


def test_a_rank_that_waited_reads_what_another_wrote(
    tmp_path: Path, walks: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other rank writes the index while this one waits for the lock."""
    root = settled(folders.two_classes(tmp_path / "images"))

    def slowly(path: Path, **arguments: Any) -> Any:
        monkeypatch.setattr(distributed, "world_size", lambda: 1)
        build(root)
        return locked(path, **arguments)

    monkeypatch.setattr(index, "locked", slowly)
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    assert len(build(root)) == 8
    assert len(walks) == 1


def test_ranks_do_not_wait_for_each_other_at_small_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "LEAST", 100)
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    root = settled(folders.two_classes(tmp_path / "images"))
    build(root)
    monkeypatch.setattr(index, "locked", None)  # not called again
    assert len(build(root)) == 8


def test_paths_are_those_of_the_names() -> None:
    ends = np.array([3, 7])
    text = np.frombuffer(b"a/bc/de", np.uint8)
    found = PathList.of(Path("x"), text, ends)
    assert list(found) == [Path("x/a/b"), Path("x/c/de")]
