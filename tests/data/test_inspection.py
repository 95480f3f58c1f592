"""What is wrong with images is found, and nothing is found where nothing is wrong."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from sklearn.datasets import load_sample_image

from ssl_zoo.data.base import DATASETS, Dataset
from ssl_zoo.data.inspection import Kind, difference_hash, inspect_images
from tests.data import folders


@pytest.fixture(scope="module")
def flower() -> Image.Image:
    return Image.fromarray(load_sample_image("flower.jpg")).resize((300, 200))


@pytest.fixture(scope="module")
def temple() -> Image.Image:
    return Image.fromarray(load_sample_image("china.jpg")).resize((300, 200))


def build(root: Path, split: str = "train", **settings: Any) -> Dataset:
    whole = {"name": "image_folder", "root": str(root), "train": ".", "labels": "none"}
    return DATASETS.build({**whole, **settings}, split=split)


def found(root: Path) -> list[tuple[Kind, str]]:
    looked = inspect_images(build(root))
    return [(one.kind, Path(one.image).name) for one in looked.findings]


def test_nothing_is_found_in_two_photographs(
    flower: Image.Image, temple: Image.Image, tmp_path: Path
) -> None:
    flower.save(tmp_path / "flower.png")
    temple.save(tmp_path / "temple.png")
    assert found(tmp_path) == []


def test_a_damaged_image_cannot_be_read(tmp_path: Path) -> None:
    folders.write(tmp_path / "0.png", 0, size=(64, 64))
    folders.damage(tmp_path / "0.png")
    assert found(tmp_path) == [("unreadable", "0.png")]


@pytest.mark.parametrize(
    ("kind", "image"),
    [
        ("tiny", Image.fromarray(np.tile(np.arange(0, 240, 10, dtype=np.uint8), (40, 1)))),
        ("dark", Image.fromarray(np.tile(np.arange(0, 20, dtype=np.uint8), (200, 10)))),
        ("blank", Image.new("RGB", (200, 200), (90, 100, 110))),
    ],
)
def test_an_odd_image_is_named(kind: Kind, image: Image.Image, tmp_path: Path) -> None:
    image.save(tmp_path / "odd.png")
    assert found(tmp_path) == [(kind, "odd.png")]


def test_a_blurred_photograph_is_found(flower: Image.Image, tmp_path: Path) -> None:
    flower.filter(ImageFilter.GaussianBlur(8)).save(tmp_path / "blurred.png")
    assert found(tmp_path) == [("blurred", "blurred.png")]


def test_copies_and_versions_of_an_image_are_found(
    flower: Image.Image, temple: Image.Image, tmp_path: Path
) -> None:
    flower.save(tmp_path / "a.png")
    flower.save(tmp_path / "b.bmp")
    flower.resize((240, 160)).save(tmp_path / "c.jpg", quality=60)
    temple.save(tmp_path / "d.png")
    looked = inspect_images(build(tmp_path))
    assert [
        (one.kind, Path(one.image).name, Path(one.detail).name) for one in looked.findings
    ] == [
        ("repeated", "b.bmp", "a.png"),
        ("similar", "c.jpg", "a.png"),
    ]


def test_flat_images_with_different_content_are_not_similar(tmp_path: Path) -> None:
    for name, corner in (("a", (20, 20)), ("b", (120, 120))):
        image = Image.new("RGB", (200, 200), "white")
        image.paste((0, 0, 0), (*corner, corner[0] + 40, corner[1] + 40))
        image.save(tmp_path / f"{name}.png")
    assert found(tmp_path) == []


def test_a_test_image_among_the_training_images_is_a_leak(
    flower: Image.Image, temple: Image.Image, tmp_path: Path
) -> None:
    for name, image in (("train/a.png", flower), ("val/b.png", flower), ("val/c.png", temple)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        image.save(tmp_path / name)
    train, test = (build(tmp_path, split, train="train") for split in ("train", "test"))
    (one,) = inspect_images(train, test).findings
    assert (one.kind, Path(one.image).name, Path(one.detail).name) == ("leaked", "b.png", "a.png")


def test_a_line_for_each_kind_counts_and_names_one(tmp_path: Path) -> None:
    for number in range(3):
        folders.write(tmp_path / f"{number}.png", number, size=(20, 24))
    (line,) = inspect_images(build(tmp_path)).lines()
    assert (
        line
        == f"tiny: 3 images (100.0 %) have a side below 32 pixels, such as '{tmp_path}/0.png' (24x20)"
    )


def test_the_hash_is_that_of_the_definition() -> None:
    """Of an image that has the size of the hash, no pixel changes."""
    values = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 8, 9), dtype=np.uint8))
    bits = "".join(
        "1" if b > a else "0" for row in values[0].tolist() for a, b in itertools.pairwise(row)
    )
    assert difference_hash(values) == int(bits, 2)
