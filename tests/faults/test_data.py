"""Data that changes or cannot be read."""

import logging
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ssl_zoo.data.base import DATASETS, Dataset
from ssl_zoo.data.image_files import MAX_PIXELS
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.evaluate import evaluate
from ssl_zoo.evaluation.result import Result
from tests.data import folders


def images(root: Path, split: str = "train", **settings: object) -> Dataset:
    found: Dataset = DATASETS.build(
        {"name": "image_folder", "root": str(root), **settings}, split=split
    )
    return found


def scored(root: Path, cache: Path | None = None, **data: object) -> Result:
    """Scores an untrained network on a folder of images."""
    return evaluate(
        "untrained:tiny_resnet",
        data={"name": "image_folder", "root": str(root), **data},
        evaluators=[{"name": "knn", "n_resamples": 100, "k": [1]}],
        image_size=16,
        cache=cache,
    )


def test_a_link_to_its_own_folder(tmp_path: Path) -> None:
    """A folder of images contains links to itself and to a folder above it.

    Then: each image counts once.
    Do: nothing.
    """
    folders.two_classes(tmp_path)
    for name in ("again", "and_again"):
        (tmp_path / "train" / "cat" / name).symlink_to(".")
    (tmp_path / "train" / "all").symlink_to("..")
    found = images(tmp_path)
    assert (len(found), found.class_names) == (8, ["cat", "dog"])


def test_two_links_to_one_folder(tmp_path: Path) -> None:
    """Two links lead to the same folder of images, one of them from another class.

    Then: its images count once, in the class where the folder really is.
    Do: remove the links if that is not what you want.
    """
    folders.two_classes(tmp_path)
    (tmp_path / "train" / "cat" / "more").symlink_to("../dog")
    (tmp_path / "train" / "cat" / "even_more").symlink_to("../dog")
    found = images(tmp_path)
    assert found.labels is not None
    assert found.labels.tolist() == [0] * 4 + [1] * 4


def test_a_class_folder_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A class folder cannot be read, because of its permissions or because its disk is not there.

    Then: the command ends at once and names the folder; it does not go on with fewer classes.
    Do: make the folder readable, or move it away.
    """
    folders.two_classes(tmp_path)
    closed, scandir = str(tmp_path / "train" / "dog"), os.scandir

    def guarded(path: object) -> object:
        if str(path) == closed:
            raise PermissionError(13, "Permission denied")
        return scandir(path)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(UserError, match=r"1 entry .* cannot be read: 'dog' \(permission denied\)"):
        images(tmp_path)
    monkeypatch.undo()
    (tmp_path / "train" / "bird").symlink_to(tmp_path / "disk" / "bird")
    for split in ("train", "test"):
        with pytest.raises(UserError, match=r"'bird' \(no such file or directory\)"):
            images(tmp_path, split)


def test_image_files_that_cannot_be_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Some image files cannot be read, because of their permissions or because they are links to nothing.

    Then: they are left out, named with the reason and counted; more than `data.max_corrupt` end the command.
    Do: make the files readable, or remove them.
    """
    folders.two_classes(tmp_path)
    (tmp_path / "train" / "cat" / "gone.png").symlink_to("nowhere.png")
    with caplog.at_level(logging.WARNING):
        assert scored(tmp_path).data.n_train == 8
    assert "gone.png' (no such file or directory); 1 so far" in caplog.text
    with pytest.raises(UserError, match=r"1 of 9 images cannot be used.*gone.png' \(no such file"):
        scored(tmp_path, max_corrupt=0)


def test_a_pipe_named_like_an_image(tmp_path: Path) -> None:
    """A pipe or another special file has the name of an image.

    Then: the command ends at once and names it; it does not wait for it.
    Do: move the file away.
    """
    folders.two_classes(tmp_path)
    os.mkfifo(tmp_path / "train" / "cat" / "pipe.png")
    with pytest.raises(UserError, match=r"cat/pipe.png' \(not a file\)"):
        images(tmp_path)


@pytest.mark.parametrize(("kind", "name"), [(np.uint16, "a.png"), (np.float32, "a.tif")])
def test_images_of_more_than_8_bits(kind: type, name: str, tmp_path: Path) -> None:
    """Images have 16 bits per value, or numbers with a fraction, as from a microscope.

    Then: the command ends at the first one and names it; the values are not cut off.
    Do: convert the images to 8 bits, with the range of values that matters.
    """
    folders.two_classes(tmp_path)
    values: NDArray[Any] = np.linspace(0, 4000, 400).reshape(20, 20).astype(kind)
    Image.fromarray(values).save(tmp_path / "train" / "cat" / name)
    with pytest.raises(UserError, match=rf"cat/{name}' has values of more than 8 bits.*convert"):
        scored(tmp_path)


def test_an_image_that_claims_billions_of_pixels(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A small file claims to be an image of billions of pixels, which would fill the memory.

    Then: it is left out and named with the limit in pixels; it is not decoded.
    Do: remove it, or scale it down.
    """
    folders.two_classes(tmp_path)
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    bomb = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
    (tmp_path / "train" / "cat" / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bomb)
    with caplog.at_level(logging.WARNING):
        assert scored(tmp_path).data.n_train == 8
    assert f"bomb.png' (more pixels than the limit of {MAX_PIXELS:,}); 1 so far" in caplog.text
    assert "cannot decode" not in caplog.text
