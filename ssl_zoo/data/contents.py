"""Describes the content of an image folder, and the setting that fits it, for error messages."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ssl_zoo.data.base import Split
from ssl_zoo.data.walk import EXTENSIONS, Walk, ending_of, is_image, subfolders

USUAL_NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "test": ("val", "valid", "validation", "test", "testing", "eval"),
}
"""Common folder names of each split, in lower case."""
_NAMED = 5  # folders or extensions named in a message
_COUNTED = 100_000  # files examined for a message


@dataclass(frozen=True)
class Contents:
    """The content of a folder, without hidden files.

    Attributes:
        folder: the folder.
        images: number of images directly in it.
        folders: number of images at any depth in each of its folders, by name.
        others: number of other files at any depth, by extension.
    """

    folder: Path
    images: int
    folders: dict[str, int]
    others: Counter[str]

    @property
    def class_folders(self) -> list[str]:
        """The folders with images, which may be classes."""
        return [name for name, count in self.folders.items() if count]

    def __str__(self) -> str:
        """Describes the content: `1 image and 2 folders with 12 images: cat (7), dog (5)`."""
        if not self.images and not self.class_folders:
            endings = [f"{count} {ending}" for ending, count in self.others.most_common()]
            return (
                f"no images but other files: {_first(endings)}"
                if endings
                else "no images and no other files"
            )
        loose, within = _count(self.images, "image"), self.class_folders
        if not within:
            return f"{loose} and no folders of images"
        named = _first([f"{name} ({self.folders[name]})" for name in within])
        images = _count(sum(self.folders.values()), "image")
        text = f"{_count(len(within), 'folder')} with {images}: {named}"
        return f"{loose} and {text}" if self.images else text


def look_into(folder: Path) -> Contents:
    """Returns the content of a folder; for a very large one, only of the first files."""
    images, folders, others = 0, Counter[str](), Counter[str]()
    seen = 0
    for level in Walk(folder):
        inside = Path(level.name).parts
        folders.update(dict.fromkeys(level.folders, 0) if not inside else {})
        for name in level.files:
            if is_image(name):
                images += not inside
                folders.update({inside[0]: 1} if inside else {})
            elif not name.startswith("."):
                others[ending_of(name)] += 1
        seen += len(level.files)
        if seen > _COUNTED:
            break
    return Contents(folder, images, dict(folders), others)


def advice_for_missing(contents: Contents, split: Split, name: str, *, labels: bool) -> str:
    """Returns what to set if a root folder has no folder `name` for a split.

    Args:
        contents: content of the root folder.
        split: the split.
        name: name of the missing folder.
        labels: whether folders are classes.
    """
    usual = [each for each in contents.class_folders if each.lower() in USUAL_NAMES[split]]
    if usual:
        return f"set data.{split}={usual[0]}"
    if len(contents.folders) == 1 and not contents.images:
        (inner,) = contents.folders
        if any(
            each.lower() in USUAL_NAMES["train"] for each in subfolders(contents.folder / inner)
        ):
            return f"set data.root={contents.folder / inner}"
    if not contents.images and not contents.class_folders:
        return f"known extensions: {', '.join(EXTENSIONS)}"
    place = contents.folder / name
    if split == "test":
        return (
            f"put the test images into '{place}', or set evaluation.every=0 to train "
            "without scores"
        )
    if all(each.lower() in USUAL_NAMES["test"] for each in contents.class_folders) and (
        not contents.images
    ):
        return f"put the training images into '{place}'"
    if labels and len(contents.class_folders) < 2:
        return "set data.train=. and data.labels=none"
    return "set data.train=."


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"


def _first(texts: list[str]) -> str:
    more = f" and {len(texts) - _NAMED} more" if len(texts) > _NAMED else ""
    return ", ".join(texts[:_NAMED]) + more
