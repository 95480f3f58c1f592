"""Decoded images that processes share: the same pixels as in the files, within a limit."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ssl_zoo.augmentations.base import AUGMENTATIONS
from ssl_zoo.data import decoded
from ssl_zoo.data.base import DATASETS
from ssl_zoo.data.decoded import DecodedImages, TooLarge, keep_decoded, kept_images
from ssl_zoo.data.image_files import ImageFiles
from ssl_zoo.data.loader import Sampling, ViewLoader
from ssl_zoo.data.workers import Grant
from tests.data import folders

KEY = "abc"


def files(root: Path, **changes: Any) -> ImageFiles:
    if not root.exists():
        folders.two_classes(root)
    settings = {"name": "image_folder", "root": str(root), **changes}
    found = DATASETS.build(settings, split="train")
    assert isinstance(found, ImageFiles)
    return found


def kept(data: ImageFiles, folder: Path, limit: int = 10**6) -> DecodedImages:
    return kept_images(data.read, len(data), folder=folder, key=KEY, limit=limit)


def test_kept_images_are_those_of_the_files_in_the_same_memory_format(tmp_path: Path) -> None:
    data = files(tmp_path / "photos")
    found = kept(data, tmp_path / "cache")
    for place in range(len(data)):
        ours, theirs = found.get(place), data.read(place)
        assert ours is not None
        assert theirs is not None
        assert torch.equal(ours, theirs)
        assert (ours.dtype, ours.stride()) == (theirs.dtype, theirs.stride())
    assert found.n_bytes == sum(3 * 24 * (20 + number) for number in range(4)) * 2


@pytest.mark.parametrize("workers", [0, 2])
def test_views_are_the_same_with_and_without(workers: int, tmp_path: Path) -> None:
    plain, data = files(tmp_path / "photos"), files(tmp_path / "photos")
    said = keep_decoded(data, folder=tmp_path / "cache", key=KEY)
    assert said.startswith("8 images are kept decoded, 0 MB in")
    settings = {"name": "multicrop", "crops": [{"size": 8, "count": 2, "scale": [0.3, 1.0]}]}
    batches = [
        list(
            ViewLoader(
                one, AUGMENTATIONS.build(settings), Sampling(4), grant=Grant(workers)
            ).epoch(1)
        )
        for one in (plain, data)
    ]
    assert len(batches[0]) == 2
    for one, other in zip(*batches, strict=True):
        assert torch.equal(one.index, other.index)
        assert torch.equal(one.views[0], other.views[0])


def test_sixteen_bits_and_images_that_cannot_be_read_are_kept_as_such(tmp_path: Path) -> None:
    images = [torch.rand(4, 3, 5), None, torch.rand(2, 6, 1)]
    found = kept_images(images.__getitem__, 3, folder=tmp_path, key=KEY, limit=1000)
    for place in (0, 2):
        ours = found.get(place)
        assert ours is not None
        assert torch.equal(ours, images[place])  # type: ignore[arg-type]
    assert found.get(1) is None


def test_a_file_is_decoded_once(tmp_path: Path) -> None:
    data = files(tmp_path / "photos")
    first = kept(data, tmp_path / "cache")
    when = (first.folder / "pixels").stat().st_mtime_ns
    assert (kept(data, tmp_path / "cache").folder / "pixels").stat().st_mtime_ns == when


def test_kept_images_that_are_not_what_decoding_gives_now_are_made_again(tmp_path: Path) -> None:
    data = files(tmp_path / "photos")
    kept(data, tmp_path / "cache")
    other = kept_images(
        lambda place: data.read(len(data) - 1 - place),
        len(data),
        folder=tmp_path / "cache",
        key=KEY,
        limit=10**6,
    )
    last, first = other.get(len(data) - 1), data.read(0)
    assert last is not None
    assert first is not None
    assert torch.equal(last, first)


def test_a_damaged_folder_is_made_again(tmp_path: Path) -> None:
    data = files(tmp_path / "photos")
    found = kept(data, tmp_path / "cache")
    (found.folder / "index.npy").write_bytes(b"no array")
    assert kept(data, tmp_path / "cache").get(3) is not None


def test_an_image_is_a_copy(tmp_path: Path) -> None:
    data = files(tmp_path / "photos")
    found = kept(data, tmp_path / "cache")
    first = found.get(0)
    assert first is not None
    before = first.clone()
    first.zero_()
    again = found.get(0)
    assert again is not None
    assert torch.equal(again, before)


def test_another_process_maps_the_file_instead_of_a_copy(tmp_path: Path) -> None:
    data = files(tmp_path / "photos")
    found = kept(data, tmp_path / "cache")
    text = pickle.dumps(found)
    assert len(text) < 1000 < found.n_bytes
    ours, theirs = pickle.loads(text).get(2), found.get(2)
    assert ours is not None
    assert theirs is not None
    assert torch.equal(ours, theirs)


def test_images_above_the_limit_are_not_kept(tmp_path: Path) -> None:
    data = files(tmp_path / "photos")
    with pytest.raises(TooLarge, match="about 0 MB"):
        kept(data, tmp_path / "cache", limit=1000)
    assert not (tmp_path / "cache").exists()
    data = files(tmp_path / "photos", decoded_mb=0)
    assert keep_decoded(data, folder=tmp_path / "cache", key=KEY) == ""
    assert data.decoded is None


def test_images_that_turn_out_larger_than_a_sample_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoded, "SAMPLED", 1)
    images = [torch.zeros(3, 2, 2), *[torch.zeros(3, 20, 20)] * 3]
    read = list[int]()

    def image(place: int) -> Tensor:
        read.append(place)
        return images[place]

    for again in (False, True):
        read.clear()
        with pytest.raises(TooLarge, match="more than"):
            kept_images(image, 4, folder=tmp_path, key=KEY, limit=4000)
        assert (len(set(read)) == 1) == again  # only the sample, as the end is known
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
    assert len(kept_images(image, 4, folder=tmp_path, key=KEY, limit=20_000)) == 4


def test_a_folder_that_cannot_be_written_is_said_and_training_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("a file")
    data = files(tmp_path / "photos")
    assert keep_decoded(data, folder=tmp_path / "cache", key=KEY) == ""
    assert "cannot be written" in caplog.text
    assert data.decoded is None


def test_what_was_used_longest_ago_is_removed_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = torch.zeros(3, 10, 10, dtype=torch.uint8)
    monkeypatch.setattr(decoded, "TOTAL", 700)
    for number, key in enumerate(("a", "b", "c")):
        kept_images(lambda place: image, 1, folder=tmp_path, key=key, limit=1000)
        os.utime(tmp_path / key, (number, number))
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["b", "c"]
