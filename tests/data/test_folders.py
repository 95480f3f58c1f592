"""What is understood of a path where a data set is expected."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssl_zoo.data.base import DATASETS
from ssl_zoo.data.folders import settings_for
from ssl_zoo.errors import UserError
from ssl_zoo.runs.config import run_config
from tests.data import folders


def images(*places: Path, n: int = 3) -> None:
    for place in places:
        for number in range(n):
            folders.write(place / f"{number}.png", number)


def understood(path: Path) -> dict[str, Any]:
    """Returns the settings, checks that both splits can be built, and leaves the root out."""
    found = settings_for(str(path))
    assert found is not None
    for split in ("train", "test"):
        assert len(DATASETS.build(found, split=split))
    assert found.pop("name") == "image_folder"
    assert Path(found.pop("root")).is_relative_to(path)
    return found


def test_split_folders_with_classes(tmp_path: Path) -> None:
    folders.two_classes(tmp_path)
    assert understood(tmp_path) == {"train": "train", "test": "val", "labels": "folders"}


def test_other_names_of_splits(tmp_path: Path) -> None:
    images(*(tmp_path / split / name for split in ("Training", "test") for name in ("cat", "dog")))
    assert understood(tmp_path) == {"train": "Training", "test": "test", "labels": "folders"}


def test_split_folders_without_classes(tmp_path: Path) -> None:
    images(tmp_path / "train", tmp_path / "validation")
    assert understood(tmp_path) == {"train": "train", "test": "validation", "labels": "none"}


def test_class_folders_hold_out_a_share(tmp_path: Path) -> None:
    images(tmp_path / "cat", tmp_path / "dog")
    assert understood(tmp_path) == {"train": ".", "test": "20%", "labels": "folders"}


def test_a_train_folder_alone_holds_out_a_share(tmp_path: Path) -> None:
    images(tmp_path / "train" / "cat", tmp_path / "train" / "dog")
    assert understood(tmp_path) == {"train": "train", "test": "20%", "labels": "folders"}


def test_a_flat_folder_has_no_classes(tmp_path: Path) -> None:
    images(tmp_path)
    assert understood(tmp_path) == {"train": ".", "test": ".", "labels": "none"}


def test_images_beside_folders_mean_that_folders_are_not_classes(tmp_path: Path) -> None:
    images(tmp_path, tmp_path / "cat", tmp_path / "dog")
    assert understood(tmp_path) == {"train": ".", "test": ".", "labels": "none"}


def test_folders_of_single_images_are_not_classes(tmp_path: Path) -> None:
    images(*(tmp_path / name for name in ("cat", "dog", "owl")), n=1)
    assert understood(tmp_path) == {"train": ".", "test": ".", "labels": "none"}


def test_a_folder_around_everything_says_nothing(tmp_path: Path) -> None:
    images(tmp_path / "images" / "cat", tmp_path / "images" / "dog")
    found = settings_for(str(tmp_path))
    assert found is not None
    assert (found["root"], found["labels"]) == (str(tmp_path / "images"), "folders")


def test_a_table_is_read_by_the_usual_names_of_its_columns(tmp_path: Path) -> None:
    images(tmp_path, n=10)
    rows = [f"{number}.png,{'ab'[number % 2]},p{number}" for number in range(10)]
    table = tmp_path / "t.csv"
    table.write_text("\n".join(["Filename,class,patient", *rows]))
    found = settings_for(str(table))
    columns = {"path": "Filename", "label": "class", "group": "patient", "test": "20%"}
    assert found == {"name": "table", "file": str(table), **columns}
    assert len(DATASETS.build(found, split="train")) == 8


def test_a_split_column_of_a_table_is_used(tmp_path: Path) -> None:
    images(tmp_path, n=4)
    rows = [f"{number}.png,{('train', 'validation')[number % 2]}" for number in range(4)]
    (tmp_path / "t.csv").write_text("\n".join(["path,split", *rows]))
    found = settings_for(str(tmp_path / "t.csv"))
    assert found is not None
    assert (found["split"], found["train"], found["test"]) == ("split", "train", "validation")


def test_what_was_understood_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images(tmp_path / "cat", tmp_path / "dog")
    with caplog.at_level("INFO", logger="ssl_zoo.data.folders"):
        settings_for(str(tmp_path))
        settings_for(str(tmp_path))
    (line,) = (record.getMessage() for record in caplog.records)
    assert f"'{tmp_path}': 6 images, 2 classes, 24x20 pixels; 20% of them are held out" in line
    assert f"read as {{name: image_folder, root: {tmp_path}, train: ., test: 20%" in line


def test_the_run_holds_full_settings_and_overrides_of_them(tmp_path: Path) -> None:
    images(tmp_path / "cat", tmp_path / "dog")
    data = run_config("simclr", overrides=[f"data={tmp_path}", "data.test=50%"]).data.model_dump()
    assert (data["name"], data["root"], data["test"]) == ("image_folder", str(tmp_path), "50%")


def test_a_registered_name_is_not_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images(tmp_path / "digits")
    monkeypatch.chdir(tmp_path)
    assert run_config("simclr", overrides=["data=digits"]).data.name == "digits"
    assert run_config("simclr", overrides=["data=./digits"]).data.name == "image_folder"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("./nothing", "'./nothing' does not exist; give a folder of images"),
        ("nothing", "unknown dataset 'nothing'"),
        ("nothing.csv", "'nothing.csv' does not exist"),
        ("empty", "folder 'empty' contains no images and no other files"),
        ("text", "folder 'text' contains no images but other files: 1 .txt"),
        ("text/notes.txt", "is a file, but neither a table"),
        ("odd.csv", "has no column 'path' with the image files; name it: data=table"),
    ],
)
def test_what_cannot_be_read_is_refused(
    data: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("text").mkdir()
    Path("text/notes.txt").write_text("no image")
    Path("odd.csv").write_text("id,size\n1,2\n")
    with pytest.raises(UserError, match=message):
        run_config("simclr", overrides=[f"data={data}"])


def test_channels_bits_and_normalisation_are_written_out(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (6, 10, 12, 4), dtype=np.uint16)
    for number, each in enumerate(values):
        np.save(tmp_path / f"{number}.npy", each)
    found = settings_for(str(tmp_path))
    assert found is not None
    assert (found["channels"], found["bits"]) == (4, 16)
    expected = values.reshape(-1, 4).mean(axis=0) / 65535
    assert found["mean"] == pytest.approx(expected.tolist(), abs=1e-4)


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_a_folder_named_like_a_data_set_is_told_apart(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(DATASETS, "_told", set())
    (tmp_path / name).mkdir()
    told = ""
    try:
        DATASETS.config(name)
    except UserError as error:
        told = str(error)
    (line,) = [told] if told else caplog.messages
    assert f"as in data=./{name}" in line
