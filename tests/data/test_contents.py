"""Messages about folders of images name what is there, and the settings that they advise work."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from ssl_zoo.data.base import DATASETS, Dataset, Split
from ssl_zoo.data.contents import look_into
from ssl_zoo.errors import UserError
from tests.data import folders

CLASSES = ("cat", "dog")


def build(root: Path, split: Split, settings: dict[str, str]) -> Dataset:
    found: Dataset = DATASETS.build(
        {"name": "image_folder", "root": str(root), **settings}, split=split
    )
    return found


def refusal(root: Path, split: Split, settings: dict[str, str]) -> str:
    with pytest.raises(UserError) as caught:
        build(root, split, settings)
    return str(caught.value)


def images(*folders_of_images: Path, n: int = 3) -> None:
    for folder in folders_of_images:
        for number in range(n):
            folders.write(folder / f"{number}.png", number)


def flat(root: Path) -> None:
    images(root)


def class_folders(root: Path) -> None:
    images(*(root / name for name in CLASSES))


def an_album(root: Path) -> None:
    images(root / "holidays")


def splits_of_other_names(root: Path) -> None:
    images(*(root / split / name for split in ("Training", "test") for name in CLASSES))


def splits_a_folder_further_down(root: Path) -> None:
    images(*(root / "inner" / split / name for split in ("train", "val") for name in CLASSES))


def splits_without_classes(root: Path) -> None:
    images(root / "train", root / "val")


@pytest.mark.parametrize(
    ("make", "split", "expected"),
    [
        (flat, "train", {"train": ".", "labels": "none"}),
        (class_folders, "train", {"train": "."}),
        (an_album, "train", {"train": ".", "labels": "none"}),
        (splits_of_other_names, "train", {"train": "Training"}),
        (splits_of_other_names, "test", {"test": "test"}),
        (splits_a_folder_further_down, "train", {"root": "inner"}),
        (splits_a_folder_further_down, "test", {"root": "inner"}),
        (splits_without_classes, "train", {"labels": "none"}),
        (splits_without_classes, "test", {"labels": "none"}),
    ],
)
def test_what_a_message_advises_works(
    make: Callable[[Path], None], split: Split, expected: dict[str, str], tmp_path: Path
) -> None:
    make(tmp_path)
    settings = {"train": "Training"} if expected.keys() == {"test"} else {}
    advice = dict(re.findall(r"data\.(\w+)=(\S+)", refusal(tmp_path, split, settings)))
    if "root" in expected:
        expected = {"root": str(tmp_path / expected["root"])}
    assert advice == expected
    root = Path(advice.pop("root", tmp_path))
    assert len(build(root, split, {**settings, **advice})) > 0


def test_the_images_of_a_flat_folder_are_counted(tmp_path: Path) -> None:
    images(tmp_path, n=12)
    assert "12 images" in refusal(tmp_path, "train", {})


def test_class_folders_are_named_with_their_images(tmp_path: Path) -> None:
    images(tmp_path / "cat" / "deeper", n=2)
    images(tmp_path / "dog", n=3)
    message = refusal(tmp_path, "train", {})
    assert all(part in message for part in ("2 folders", "5 images", "cat (2)", "dog (3)"))


def test_of_many_class_folders_a_few_are_named(tmp_path: Path) -> None:
    images(*(tmp_path / f"class{number}" for number in range(9)), n=1)
    message = refusal(tmp_path, "train", {})
    assert "9 folders" in message
    assert "class4 (1) and 4 more" in message


def test_data_without_a_test_split_can_be_trained_without_scores(tmp_path: Path) -> None:
    class_folders(tmp_path)
    message = refusal(tmp_path, "test", {"train": "."})
    assert f"'{tmp_path / 'val'}'" in message
    assert "evaluation.every=0" in message


@pytest.mark.parametrize("settings", [{}, {"train": "."}, {"train": ".", "labels": "none"}])
def test_files_that_are_no_images_are_named_by_their_ending(
    settings: dict[str, str], tmp_path: Path
) -> None:
    for name in ("a.mov", "b.MOV", "notes.txt", ".hidden.png"):
        (tmp_path / name).write_text("")
    message = refusal(tmp_path, "train", settings)
    assert "2 .mov, 1 .txt" in message
    assert ".jpg" in message


@pytest.mark.parametrize("settings", [{}, {"train": "."}, {"train": ".", "labels": "none"}])
def test_an_empty_folder_is_called_so(settings: dict[str, str], tmp_path: Path) -> None:
    assert "no other files" in refusal(tmp_path, "train", settings)


def test_a_file_in_place_of_the_folder_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "photos.zip").write_text("")
    assert "is a file" in refusal(tmp_path / "photos.zip", "train", {})


def test_hidden_folders_and_files_do_not_count(tmp_path: Path) -> None:
    images(tmp_path / ".thumbnails", tmp_path / "cat")
    folders.write(tmp_path / ".hidden.png", 0)
    found = look_into(tmp_path)
    assert (found.images, found.folders, found.others) == (0, {"cat": 3}, {})
