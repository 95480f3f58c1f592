"""Image files in folders, with one folder per class or without labels."""

import logging
import os
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from ssl_zoo.data.base import DATASETS, Dataset, Split
from ssl_zoo.data.contents import advice_for_missing, look_into
from ssl_zoo.data.image_files import ImageFiles, PathList
from ssl_zoo.data.walk import EXTENSIONS, Walk, is_image, subfolders
from ssl_zoo.errors import UserError

logger = logging.getLogger(__name__)


@DATASETS.register
class ImageFolder(ImageFiles):
    """Image files in `root/train` and `root/val`, with one folder per class."""

    class Config(Dataset.Config):
        """Settings of a folder of images."""

        name: Literal["image_folder"] = "image_folder"
        """Registered name."""
        root: str
        """Folder that contains the splits."""
        train: str = "train"
        """Folder of the training images in `root`; `.` is `root` itself."""
        test: str = "val"
        """Folder of the test images in `root`."""
        labels: Literal["folders", "none"] = "folders"
        """`folders`: the first folder inside a split is the class; `none`: no labels."""
        max_corrupt: int = Field(default=100, ge=0)
        """Number of images that may fail to decode before a run stops."""

    def __init__(self, config: Config, *, split: Split) -> None:
        self.config = config
        self.max_corrupt = config.max_corrupt
        self.folder = _split_folder(config, split)
        self.class_names: list[str] = []
        self.labels: Tensor | None = None
        names = sorted(_images(self.folder))
        if config.labels == "folders":
            names = self._label(names, config, split)
        self._paths = PathList(self.folder, names)
        if not names:
            raise _no_images(self.folder)

    def _label(self, names: list[str], config: Config, split: Split) -> list[str]:
        """Sets classes and labels; returns the paths of the images in class folders."""
        known = _class_folders(_split_folder(config, "train"))
        here = known if split == "train" else _class_folders(self.folder)
        strange = sorted(set(here) - set(known))
        if strange:
            raise UserError(
                f"folder '{self.folder}' has class '{strange[0]}', which is missing from '{config.train}'; "
                "give both splits the same class folders"
            )
        _check_count(here, self.folder, split)
        found: dict[str, list[str]] = {name: [] for name in here}
        for name in names:
            first, separator, _ = name.partition(os.sep)
            if separator:  # images beside the class folders have no class
                found[first].append(name)
        for label in (label for label, images in found.items() if not images):
            logger.warning("class folder '%s' contains no images", self.folder / label)
        self.class_names = known
        labels = torch.tensor([known.index(label) for label in found], dtype=torch.int64)
        self.labels = labels.repeat_interleave(torch.tensor([*map(len, found.values())]))
        return [name for images in found.values() for name in images]


def _split_folder(config: Any, split: Split) -> Path:
    root = Path(config.root)
    if not root.is_dir():
        problem = "is a file, not a folder" if root.exists() else "does not exist"
        raise UserError(f"folder '{root}' {problem}; set data.root to the folder of the images")
    name: str = config.train if split == "train" else config.test
    folder = root / name
    if not folder.is_dir():
        contents = look_into(root)
        labels = config.labels == "folders"
        raise UserError(
            f"folder '{root}' has no '{name}' for data.{split}; it contains {contents}; "
            + advice_for_missing(contents, split, name, labels=labels)
        )
    return folder


def _no_images(folder: Path) -> UserError:
    return UserError(
        f"folder '{folder}' contains {look_into(folder)}; known extensions: {', '.join(EXTENSIONS)}"
    )


def _class_folders(folder: Path) -> list[str]:
    names = subfolders(folder)
    if not names:
        contents = look_into(folder)
        if not contents.images:
            raise _no_images(folder)
        raise UserError(
            f"folder '{folder}' contains {contents}, but each class needs its own folder; set "
            "data.labels=none to train without classes"
        )
    return names


def _check_count(names: list[str], folder: Path, split: Split) -> None:
    if len(names) > 1:
        return
    if split == "test":
        raise UserError(
            f"folder '{folder}' contains only class '{names[0]}'; scoring needs at least two classes"
        )
    logger.warning(
        "folder '%s' contains only class '%s'; its labels are not informative", folder, names[0]
    )


def _images(folder: Path) -> list[str]:
    """Returns the paths of all images relative to a folder.

    Raises:
        UserError: a folder below it cannot be read.
    """
    walk = Walk(folder)
    found = [
        os.path.join(level.name, name) for level in walk for name in level.files if is_image(name)
    ]
    walk.refuse_unreadable()
    return found
