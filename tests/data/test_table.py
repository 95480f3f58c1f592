"""Image files that are listed in a table."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ssl_zoo.data.base import DATASETS, Dataset, Split
from ssl_zoo.errors import UserError
from tests.data import folders


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table of ten images of two classes, from five patients, one image without a label."""
    lines = ["path,label,patient,split,red,round"]
    for number in range(10):
        folders.write(tmp_path / "images" / f"{number}.png", number)
        label = "" if number == 9 else ("cat", "dog")[number % 2]
        split = "val" if number > 7 else "train"
        marks = f"{number % 2},{number % 3 == 0:d}"
        lines.append(f"images/{number}.png,{label},p{number // 2},{split},{marks}")
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "t.csv"


def build(table: Path, part: Split = "train", **settings: Any) -> Dataset:
    found: Dataset = DATASETS.build({"name": "table", "file": str(table), **settings}, split=part)
    return found


def names(dataset: Dataset) -> list[str]:
    return [Path(dataset.describe(place)).stem for place in range(len(dataset))]


def test_a_split_column_gives_both_splits(table: Path) -> None:
    found = [build(table, part, split="split", test="val") for part in ("train", "test")]
    assert names(found[0]) == [str(number) for number in range(8)]
    assert names(found[1]) == ["8", "9"]


def test_images_are_read_from_the_folder_of_the_table(table: Path) -> None:
    image = build(table, test="train").load(torch.tensor([3]))[0]
    assert image is not None
    assert image.shape == (3, 20, 24)


def test_an_empty_label_is_none(table: Path) -> None:
    found = build(table, label="label", test="train")
    assert found.class_names == ["cat", "dog"]
    assert found.labels is not None
    assert found.labels.tolist() == [0, 1, 0, 1, 0, 1, 0, 1, 0, -1]


def test_several_columns_mark_several_classes(table: Path) -> None:
    found = build(table, label=["red", "round"], test="train")
    assert found.class_names == ["red", "round"]
    assert found.labels is not None
    assert found.labels[:4].tolist() == [[0, 1], [1, 0], [0, 0], [1, 1]]


def test_a_separator_gives_several_classes(table: Path, tmp_path: Path) -> None:
    text = "path,label\nimages/0.png,cat; dog\nimages/1.png,\nimages/2.png,dog\n"
    (tmp_path / "several.csv").write_text(text)
    found = build(tmp_path / "several.csv", label="label", separator=";", test="train")
    assert found.labels is not None
    assert found.labels.tolist() == [[1, 1], [0, 0], [0, 1]]


def test_held_out_images_are_not_in_training(table: Path) -> None:
    train, test = (build(table, split, test="30%") for split in ("train", "test"))
    assert sorted(names(train) + names(test)) == [str(number) for number in range(10)]
    assert len(test) == 3


def test_a_patient_is_in_one_split(table: Path) -> None:
    train, test = (build(table, each, test="40%", group="patient") for each in ("train", "test"))
    patients = [{int(name) // 2 for name in names(each)} for each in (train, test)]
    assert not patients[0] & patients[1]
    assert patients[1]


def test_a_share_is_held_out_of_the_training_rows_alone(table: Path) -> None:
    found = [build(table, each, split="split", test="25%") for each in ("train", "test")]
    assert sorted(int(name) for each in found for name in names(each)) == list(range(8))


def test_the_fingerprint_changes_with_labels(table: Path) -> None:
    before = build(table, label="label", test="train").fingerprint
    table.write_text(table.read_text().replace("0.png,cat", "0.png,dog"))
    assert build(table, label="label", test="train").fingerprint != before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label": "lable"}, "has no column 'lable'. Did you mean 'label'"),
        ({"split": "splt", "test": "val"}, "has no column 'splt'"),
        ({"split": "split", "test": "test"}, "has no row with 'test' in column 'split'"),
        ({"test": "val"}, "there is no split column"),
        ({"test": "train", "group": "patient"}, "groups are used to hold out a share"),
        ({"test": "train", "train": "val"}, "there is no split column; set split"),
        ({"test": "train", "label": ["label", "red"]}, "column 'label' .* contains 'cat'"),
        ({"test": "120%"}, "leaves one split empty"),
        ({"test": "train", "root": "/nowhere"}, "lists 10 of 10 files that do not exist"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str, table: Path) -> None:
    with pytest.raises(UserError, match=message):
        build(table, "test", **settings)


def test_a_missing_file_is_named(table: Path) -> None:
    (table.parent / "images" / "4.png").unlink()
    with pytest.raises(
        UserError, match=r"lists 1 of 10 files that do not exist: .*/images/4.png;"
    ):
        build(table, test="train")


def test_a_row_without_a_path_is_refused(table: Path) -> None:
    table.write_text(table.read_text().replace("images/4.png", ""))
    with pytest.raises(UserError, match="1 rows without a path in column 'path'"):
        build(table, test="train")
