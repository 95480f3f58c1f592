"""Data that changes or cannot be read."""

import json
import logging
import os
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ssl_zoo.comparison.compare import compare
from ssl_zoo.data.base import DATASETS, Dataset
from ssl_zoo.data.other_files import MAX_PIXELS
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.evaluate import evaluate
from ssl_zoo.evaluation.result import Result
from ssl_zoo.runs import checkpoint
from ssl_zoo.runs.config import RunConfig
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.training.train import train
from tests.data import folders
from tests.small import TINY, fast_config

KNN = {"name": "knn", "n_resamples": 100, "k": [1]}


def bitmaps(root: Path, **grey: int) -> Path:
    """Writes uncompressed images: all files have the same size, whatever they show."""
    for split in ("train", "val"):
        for label, value in grey.items():
            (root / split / label).mkdir(parents=True, exist_ok=True)
            for number in range(3):
                image = Image.new("RGB", (16, 16), (value + number,) * 3)
                image.save(root / split / label / f"{number}.bmp")
    return root


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
        evaluators=[KNN],
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

    Then: the command ends at once and names the folder; it does not continue with fewer classes.
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
    Do: set `data.bits` to what the message says, and `data.mean` and `data.std` to match.
    """
    folders.two_classes(tmp_path)
    values: NDArray[Any] = np.linspace(0, 4000, 400).reshape(20, 20).astype(kind)
    Image.fromarray(values).save(tmp_path / "train" / "cat" / name)
    with pytest.raises(UserError, match=rf"cat/{name}' has .*data.bits=8; set data.bits="):
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


def run_on(root: Path, *overrides: str) -> RunConfig:
    return fast_config(
        "supervised",
        f"data={{name: image_folder, root: {root}}}",
        "global_batch_size=4",
        "epochs=2",
        "checkpoint.every=2 steps",
        *overrides,
    )


@pytest.fixture(scope="module")
def stopped_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over 16 images that was stopped at step 6 of 8, beside its images."""
    folder = tmp_path_factory.mktemp("data")
    folders.two_classes(folder / "images", n=8)
    train(run_on(folder / "images"), folder / "run", bar=False)
    (folder / "run" / "complete.json").unlink()
    shutil.rmtree(folder / "run" / "checkpoints" / "step-00000008")
    return folder


@pytest.fixture
def stopped(stopped_run: Path, tmp_path: Path) -> Path:
    """A copy of the stopped run and of its images; the run resumes on the copied images."""
    return Path(shutil.copytree(stopped_run, tmp_path / "copy"))


def resumed(folder: Path, *overrides: str) -> RunFolder:
    return RunFolder(train(run_on(folder / "images", *overrides), folder / "run", bar=False))


def test_images_of_a_run_are_copied_to_another_place(stopped: Path, stopped_run: Path) -> None:
    """The run folder and the images are copied to another machine, and the run resumes there.

    Then: it resumes; the images are the same, whatever their folder is called.
    Do: set `data.root` to the new place.
    """
    assert RunFolder(stopped / "run").config().data != run_on(stopped / "images").data
    assert resumed(stopped).is_complete


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("a file is replaced", "the first difference is at '.*cat/3.png'"),
        ("files are gone", "16 images then, 12 now"),
        ("a class is renamed", "class 'dog' is gone; class 'aardvark' is new"),
    ],
)
def test_images_of_a_run_change(fault: str, told: str, stopped: Path) -> None:
    """Images are replaced, removed or added, or a class folder is renamed, and the run resumes.

    Then: it is refused, with what changed.
    Do: restore the images, or accept the change with `data.changed=accept`.
    """
    change(stopped / "images" / "train", fault)
    with pytest.raises(UserError, match=f"changed since step 6: {told}.*data.changed=accept"):
        resumed(stopped)
    assert not RunFolder(stopped / "run").is_complete


def change(images: Path, fault: str) -> None:
    if fault == "a file is replaced":
        shutil.copy(images / "cat" / "0.png", images / "cat" / "3.png")
    elif fault == "a class is renamed":
        (images / "dog").rename(images / "aardvark")
    else:
        for number in range(4, 8):
            (images / "dog" / f"{number}.png").unlink()


def test_a_change_of_images_is_accepted(stopped: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Images of a run have changed, and the run resumes with `data.changed=accept`.

    Then: it resumes on the new images, with a warning; checkpoints and the card remember what changed.
    Do: nothing.
    """
    change(stopped / "images" / "train", "a file is replaced")
    run = resumed(stopped, "data.changed=accept")
    assert "has changed since step 6: the first difference" in caplog.text
    data = checkpoint.read_manifest(checkpoint.found(run.checkpoints)[0]).data
    assert data is not None
    assert ["at step 6: the first difference" in each for each in data.changes] == [True]


def test_a_run_that_was_trained_on_other_images_is_compared(stopped: Path) -> None:
    """Images have changed since a finished run was trained, and the run is compared with others.

    Then: it is refused, with what changed.
    Do: train it again, or accept the difference with `--set data.changed=accept`.
    """
    run = resumed(stopped).path
    change(stopped / "images" / "train", "a file is replaced")
    with pytest.raises(
        UserError, match="trained on other images .* difference is at '.*cat/3.png'"
    ):
        compare([str(run)], evaluators=[KNN], output=stopped / "compared")


def test_test_images_change_between_comparisons(tmp_path: Path) -> None:
    """Test images are replaced by others of the same names and sizes, and methods are compared again.

    Then: all are scored again; scores of other images are not used.
    Do: nothing.
    """
    one, other = (
        compare(
            ["raw_pixels"],
            evaluators=[KNN],
            output=tmp_path / "compared",
            overrides=[
                f"data={{name: image_folder, root: {bitmaps(tmp_path / 'images', **grey)}}}",
                *TINY["tiny_resnet"],
                "global_batch_size=4",
            ],
        )
        for grey in ({"cat": 0, "dog": 200}, {"cat": 100, "dog": 100})
    )
    assert one.fingerprint != other.fingerprint
    assert one.row("raw_pixels").scores != other.row("raw_pixels").scores


def test_a_checkpoint_beyond_the_end_of_the_run(stopped: Path) -> None:
    """So many images are gone that a run would end before the step of its checkpoint.

    Then: it is refused, even if the change of images is accepted.
    Do: restore the images, or start a new run.
    """
    change(stopped / "images" / "train", "files are gone")
    for path in (stopped / "images" / "train" / "cat").glob("[0-3].png"):
        path.unlink()
    with pytest.raises(UserError, match="is of step 6, but with these data the run has 4 steps"):
        resumed(stopped, "data.changed=accept")


def test_a_checkpoint_that_does_not_know_its_images(
    stopped: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A checkpoint is of an earlier version, which did not remember the images.

    Then: the run resumes, with a line that the images are not compared.
    Do: make sure that they are the same.
    """
    for path in checkpoint.found(stopped / "run" / "checkpoints"):
        manifest = json.loads((path / checkpoint.MANIFEST).read_text())
        manifest["config"]["data"]["root"] = str(stopped / "images")
        (path / checkpoint.MANIFEST).write_text(json.dumps({**manifest, "data": None}))
    with caplog.at_level(logging.INFO):
        assert resumed(stopped).is_complete
    assert caplog.text.count("the data is not checked") == 1
