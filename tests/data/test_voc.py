from pathlib import Path
from typing import Any

import pytest
import torch

from ssl_zoo.data.base import DATASETS, Dataset
from ssl_zoo.errors import UserError
from tests.data import folders, voc_folder


def build(root: Path, split: Any = "train", **settings: Any) -> Dataset:
    return DATASETS.build({"name": "voc", "root": str(root), **settings}, split=split)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return voc_folder.write(tmp_path / "VOC2007")


def labels(dataset: Dataset) -> list[list[int]]:
    assert dataset.labels is not None
    return dataset.labels.tolist()


@pytest.mark.parametrize("source", ["annotations", "lists"])
def test_labels_mark_all_classes_of_an_image(root: Path, source: str) -> None:
    train = build(root, labels=source)
    assert train.class_names == ["bird", "cat", "dog"]
    assert labels(train) == [[0, 1, 0], [0, 1, 1], [0, 0, 0], [1, 0, 1], [0, 0, 0]]
    assert labels(build(root, "test", labels=source)) == [[1, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize("source", ["annotations", "lists"])
def test_classes_of_difficult_objects_alone_may_be_unsure(root: Path, source: str) -> None:
    train = build(root, labels=source, difficult="unsure")
    assert labels(train)[2:4] == [[0, 0, -1], [1, 0, 1]]  # 000004 shows an easy dog as well
    assert labels(build(root, "test", labels=source, difficult="unsure"))[1] == [0, -1, 1]


def test_images_are_decoded_and_named(root: Path) -> None:
    train = build(root)
    (image,) = train.load(torch.tensor([1]))
    assert image is not None
    assert image.shape == (3, 24, 20)
    assert train.describe(1).endswith("JPEGImages/000002.jpg")
    assert len(train) == 5
    assert not train.in_memory


def test_a_damaged_or_missing_image_is_none(root: Path) -> None:
    folders.damage(root / "JPEGImages" / "000001.jpg")
    (root / "JPEGImages" / "000002.jpg").unlink()
    train = build(root)
    assert train.load(torch.tensor([0, 1])) == [None, None]
    assert train.fingerprint


def test_the_fingerprint_knows_images_and_labels(root: Path) -> None:
    before = build(root).fingerprint
    assert build(root).fingerprint == before
    assert build(root, "test").fingerprint != before
    assert build(root, difficult="unsure").fingerprint != before
    folders.write(root / "JPEGImages" / "000001.png", 5, (99, 99))
    (root / "JPEGImages" / "000001.png").rename(root / "JPEGImages" / "000001.jpg")
    assert build(root).fingerprint != before


def test_a_parent_folder_is_refused_with_the_right_root(root: Path) -> None:
    with pytest.raises(UserError, match=f"has no 'JPEGImages'.*set data.root={root}"):
        build(root.parent)
    with pytest.raises(UserError, match="has no 'JPEGImages'"):
        build(root / "nowhere")


def test_an_unknown_list_is_reported_with_the_existing_ones(root: Path) -> None:
    with pytest.raises(UserError, match=r"val\.txt' cannot be read.*: .*trainval"):
        build(root, train="val")


def test_an_empty_list_is_refused(root: Path) -> None:
    (root / "ImageSets" / "Main" / "trainval.txt").write_text("\n")
    with pytest.raises(UserError, match="names no images"):
        build(root)


@pytest.mark.parametrize("content", ["<annotation><object>", None])
def test_a_damaged_or_missing_annotation_is_refused(root: Path, content: str | None) -> None:
    path = root / "Annotations" / "000002.xml"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(UserError, match=r"000002\.xml' cannot be read"):
        build(root)
    assert labels(build(root, labels="lists"))


def test_an_object_without_a_name_is_refused(root: Path) -> None:
    path = root / "Annotations" / "000002.xml"
    path.write_text("<annotation><object><difficult>0</difficult></object></annotation>")
    with pytest.raises(UserError, match="an object without a name"):
        build(root)


def test_a_test_class_missing_from_train_is_refused(tmp_path: Path) -> None:
    test = {"000009": {"zebra": "easy"}}
    root = voc_folder.write(tmp_path / "voc", {"trainval": voc_folder.TRAIN, "test": test})
    with pytest.raises(UserError, match="image '000009' .* shows class 'zebra'"):
        build(root, "test")
