"""Image files in folders, with one folder per class or without labels."""

import functools
import hashlib
import logging
import os
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from ssl_zoo.data.base import DATASETS, Dataset, Split
from ssl_zoo.data.contents import EXTENSIONS, advice_for_missing, is_image, look_into
from ssl_zoo.errors import UserError

logger = logging.getLogger(__name__)


class PathList:
    """Relative paths in one block of memory that loader processes share without copying.

    A list of a million strings would be copied page by page as their reference counts change.
    """

    def __init__(self, folder: Path, names: list[str]) -> None:
        self.folder = folder
        encoded = [os.fsencode(name) for name in names]
        self._text = b"".join(encoded)
        self._ends = torch.tensor([len(name) for name in encoded], dtype=torch.int64).cumsum(0)

    def __len__(self) -> int:
        return len(self._ends)

    def name(self, index: int) -> str:
        """Returns a path relative to the folder."""
        start = int(self._ends[index - 1]) if index else 0
        return os.fsdecode(self._text[start : int(self._ends[index])])

    def __getitem__(self, index: int) -> Path:
        return self.folder / self.name(index)


def decode(path: Path) -> Tensor | None:
    """Returns an image as RGB `(3, H, W)` uint8, or None if it cannot be decoded."""
    import numpy as np
    from PIL import Image

    try:
        with Image.open(path) as image:
            pixels = np.array(image.convert("RGB"))
    except Exception:  # Pillow's decoders raise a dozen types on damaged files
        return None
    return torch.from_numpy(pixels).permute(2, 0, 1)


class ImageFiles(Dataset):
    """Images that are read from files on demand."""

    in_memory = False
    _paths: PathList

    def __len__(self) -> int:
        return len(self._paths)

    def load(self, indices: Tensor) -> list[Tensor | None]:
        """Decodes the images at positions `(B,)`; None for an image that cannot be decoded."""
        return [decode(self._paths[index]) for index in indices.tolist()]

    def describe(self, index: int) -> str:
        """Returns the path of an image."""
        return str(self._paths[index])


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
        names = (
            _images_below(self.folder) if config.labels == "none" else self._scan(config, split)
        )
        self._paths = PathList(self.folder, names)
        if not names:
            raise _no_images(self.folder)

    def _scan(self, config: Config, split: Split) -> list[str]:
        """Sets classes and labels; returns the paths relative to the split's folder."""
        known = _class_folders(_split_folder(config, "train"))
        names = known if split == "train" else _class_folders(self.folder)
        strange = sorted(set(names) - set(known))
        if strange:
            raise UserError(
                f"folder '{self.folder}' has class '{strange[0]}', which is missing from '{config.train}'; "
                "give both splits the same class folders"
            )
        _check_count(names, self.folder, split)
        files: list[str] = []
        labels: list[int] = []
        for name in names:
            found = _images_below(self.folder / name)
            if not found:
                logger.warning("class folder '%s' contains no images", self.folder / name)
            files += [os.path.join(name, file) for file in found]
            labels += [known.index(name)] * len(found)
        self.class_names = known
        self.labels = torch.tensor(labels, dtype=torch.int64)
        return files

    @functools.cached_property
    def fingerprint(self) -> str:
        """Digest of relative paths and sizes in bytes."""
        digest = hashlib.sha256()
        for index in range(len(self)):
            size = self._paths[index].stat().st_size
            digest.update(os.fsencode(f"{self._paths.name(index)}\0{size}\n"))
        return digest.hexdigest()[:16]


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
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    names = [name for name in names if not name.startswith(".")]
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


def _images_below(folder: Path) -> list[str]:
    """Returns the paths of all images relative to a folder, sorted."""
    found: list[str] = []
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = os.path.relpath(place, folder)
        prefix = "" if below == "." else below + os.sep
        found += [prefix + name for name in files if is_image(name)]
    return sorted(found)
