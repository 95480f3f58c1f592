"""Cached features."""

import multiprocessing
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ssl_zoo.backbones.tiny import TinyResNet
from ssl_zoo.data.image_files import ImageFiles
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation import cache
from tests.data import folders
from tests.faults.test_data import bitmaps, scored


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "BLOCK_ROWS", 1)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of images of each forward pass of the network."""
    passes: list[int] = []
    forward = TinyResNet.forward

    def counted(self: TinyResNet, images: Tensor) -> Tensor:
        passes.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(TinyResNet, "forward", counted)
    return passes


def test_images_replaced_under_the_same_names(tmp_path: Path, kept: Path) -> None:
    """Images are replaced by others of the same names and sizes.

    Then: their features are computed again; kept ones are not used.
    Do: nothing.
    """
    before = scored(bitmaps(tmp_path, cat=0, dog=200), kept)
    after = scored(bitmaps(tmp_path, cat=100, dog=100), kept)
    fresh = scored(tmp_path)
    assert after.evaluators["knn"].scores == fresh.evaluators["knn"].scores
    assert after.evaluators["knn"].scores != before.evaluators["knn"].scores
    assert before.data.fingerprint != after.data.fingerprint == fresh.data.fingerprint


def test_images_moved_to_another_folder(tmp_path: Path, kept: Path, computed: list[int]) -> None:
    """Images are moved or copied to another folder, unchanged.

    Then: they count as the same images; kept features are used again.
    Do: nothing.
    """
    before = scored(folders.two_classes(tmp_path / "here"), kept)
    computed.clear()
    after = scored((tmp_path / "here").rename(tmp_path / "there"), kept)
    assert after.data.fingerprint == before.data.fingerprint
    assert sum(computed) <= 1  # one image, to count multiply-adds


def test_an_image_that_could_not_be_read_for_a_moment(tmp_path: Path, kept: Path) -> None:
    """An image cannot be read while features are extracted, and is readable again later.

    Then: the first score leaves it out with a warning; the next one includes it.
    Do: nothing.
    """
    folders.two_classes(tmp_path)
    image = tmp_path / "train" / "cat" / "1.png"
    image.rename(tmp_path / "away.png")
    image.symlink_to(tmp_path / "nowhere.png")
    assert scored(tmp_path, kept).data.n_train == 7
    (tmp_path / "away.png").replace(image)
    assert scored(tmp_path, kept).data.n_train == 8


def test_images_that_change_while_they_are_read(
    tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images are still being copied or changed while features are extracted from them.

    Then: the command ends and names an image that changed; nothing is kept.
    Do: start it again when the data is complete.
    """
    folders.two_classes(tmp_path)
    load = ImageFiles.load

    def changing(self: ImageFiles, indices: Tensor) -> list[Tensor | None] | Tensor:
        folders.write(tmp_path / "train" / "dog" / "2.png", seed=5)
        return load(self, indices)

    with monkeypatch.context() as patch:
        patch.setattr(ImageFiles, "load", changing)
        with pytest.raises(UserError, match=r"1 of 8 images changed while .*dog/2.png"):
            scored(tmp_path, kept)
    assert not [*kept.rglob("*.npy")]


def _score_and_send(root: Path, kept: Path, ready: object, results: object) -> None:
    torch.set_num_threads(1)
    ready.wait()  # type: ignore[attr-defined]
    results.put(scored(root, kept).evaluators["knn"].scores)  # type: ignore[attr-defined]


def test_two_processes_that_extract_the_same_features(tmp_path: Path, kept: Path) -> None:
    """Two processes need the same features at the same time.

    Then: one extracts them, the other waits and uses them; both report the same scores.
    Do: nothing.
    """
    folders.two_classes(tmp_path, n=8)
    context = multiprocessing.get_context("fork")
    ready, results = context.Barrier(2), context.Queue()
    work = [
        context.Process(target=_score_and_send, args=(tmp_path, kept, ready, results))
        for _ in range(2)
    ]
    for process in work:
        process.start()
    for process in work:
        process.join()
    assert [process.exitcode for process in work] == [0, 0]
    assert results.get() == results.get() == scored(tmp_path).evaluators["knn"].scores


def test_a_file_of_the_cache_that_a_power_failure_left_empty(tmp_path: Path, kept: Path) -> None:
    """A power failure leaves an empty file in the cache.

    Then: the features are extracted again, with a warning that names the folder.
    Do: nothing.
    """
    folders.two_classes(tmp_path)
    before = scored(tmp_path, kept)
    for file in kept.rglob("images.npz"):
        file.write_bytes(b"")
    assert scored(tmp_path, kept).evaluators["knn"].scores == before.evaluators["knn"].scores


def test_a_block_that_a_power_failure_left_empty(
    tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power failure during an extraction leaves an empty file of a block of features.

    Then: the same command resumes and computes this block again.
    Do: start the same command again.
    """
    folders.two_classes(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(cache.CachedFeatures, "finish", _stop)
        with pytest.raises(KeyboardInterrupt):
            scored(tmp_path, kept)
    next(kept.rglob("000000.npz")).write_bytes(b"")
    assert scored(tmp_path, kept).data.n_train == 8


def _stop(*_: object) -> None:
    raise KeyboardInterrupt
