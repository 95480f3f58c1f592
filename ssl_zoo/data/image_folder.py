"""Image files in folders, with one folder per class or without labels."""

import logging
import os
import time
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import field_validator
from torch import Tensor

from ssl_zoo.data.base import DATASETS, Split
from ssl_zoo.data.columns import header, is_table, table_columns, usual
from ssl_zoo.data.contents import USUAL_NAMES, advice_for_missing, look_into
from ssl_zoo.data.decoding import check_packages
from ssl_zoo.data.held_out import HeldOutConfig, held_out
from ssl_zoo.data.image_files import FilesConfig, ImageFiles, PathList
from ssl_zoo.data.index import FolderIndex, Listing, times_of
from ssl_zoo.data.walk import EXTENSIONS, Walk, is_image, subfolders, tell_of_others
from ssl_zoo.errors import UserError

logger = logging.getLogger(__name__)

_SPLIT_NAMES = {name for names in USUAL_NAMES.values() for name in names}


@DATASETS.register
class ImageFolder(ImageFiles):
    """Image files in `root/train` and `root/val`, with one folder per class."""

    class Config(HeldOutConfig, FilesConfig):
        """Settings of a folder of images."""

        LATER: ClassVar[frozenset[str]] = frozenset({"split_seed"})

        name: Literal["image_folder"] = "image_folder"
        """Registered name."""
        root: str
        """Folder that contains the splits."""
        train: str = "train"
        """Folder of the training images in `root`; `.` is `root` itself."""
        test: str = "val"
        """Folder of the test images in `root`, or the share of the training images that is held out, such
        as `20%`."""
        labels: str = "folders"
        """`folders`: the first folder inside a split is the class; `none`: no labels; or a .csv, .tsv or
        .parquet file with a column of paths relative to `root` and one of classes. Images that it does
        not list have no label."""

        @field_validator("labels")
        @classmethod
        def _check_labels(cls, value: str) -> str:
            if value not in ("folders", "none") and not is_table(value):
                raise ValueError(
                    f"'{value}' is not a source of labels; use 'folders', 'none', or a .csv, .tsv or "
                    ".parquet file"
                )
            return value

    def __init__(self, config: Config, *, split: Split) -> None:
        self.config = config
        self.max_corrupt = config.max_corrupt
        share = config.share
        self.folder = _split_folder(config, "train" if share else split)
        self.class_names: list[str] = []
        self.labels: Tensor | None = None
        self._index = self._index_of(split)
        listed = self._index.read() if self._index is not None else None
        if listed is None:
            with self._index.claimed() if self._index is not None else nullcontext():
                listed = self._index.read() if self._index is not None else None
                listed = listed or self._list(split, share)
        check_packages([f"image{ending}" for ending in listed.endings])
        self._paths = PathList.of(self.folder, listed.text, listed.ends)
        self.class_names = listed.class_names
        self.labels = None if listed.labels is None else torch.from_numpy(listed.labels)

    def _index_of(self, split: Split) -> FolderIndex | None:
        """Returns the index of the folder; None if a table has the labels."""
        config = self.config
        if config.labels not in ("folders", "none"):
            return None
        train = _split_folder(config, "train") if config.labels == "folders" else self.folder
        settings = {"labels": config.labels, "held_out": config.test if config.share else ""}
        seed = {"seed": config.split_seed, "split": split} if config.share else {}
        return FolderIndex(self.folder, {**settings, **seed, "classes": str(train.resolve())})

    def _list(self, split: Split, share: Fraction | None) -> Listing:
        """Walks through the folder, and writes the index of a large one."""
        config, began = self.config, time.time()
        names, folders = _images(self.folder)
        names.sort()
        labels: NDArray[np.int64] | None = None
        class_names: list[str] = []
        if not names:
            raise _no_images(self.folder)
        if config.labels == "folders":
            train = _split_folder(config, "train")
            self.class_names = class_names = _class_folders(train)
            names, labels = self._by_folder(names, split)
            folders.append(os.path.relpath(train.resolve(), self.folder.resolve()))
        elif config.labels != "none":
            class_names, labels = _from_table(config, self.folder, names)
        if share:
            keys = [os.fsencode(name) for name in names]
            out = held_out(keys, share, seed=config.split_seed, labels=labels)
            rows = np.flatnonzero(out if split == "test" else ~out)
            names = [names[row] for row in rows]
            labels = None if labels is None else labels[rows]
        paths = PathList(self.folder, names)
        endings = sorted({os.path.splitext(name)[1].lower() for name in names})
        listed = Listing(paths.text, paths.ends, class_names, labels, endings)
        if self._index is not None:
            self._index.write(listed, times_of(self.folder.resolve(), folders), began=began)
        return listed

    def file_name(self, index: int) -> str:
        """Returns the path of an image relative to `root`."""
        split = self.folder.relative_to(self.config.root)
        return str(split / self._paths.name(index))

    def _by_folder(self, names: list[str], split: Split) -> tuple[list[str], NDArray[np.int64]]:
        """Returns the images in class folders, and their labels."""
        known, train = self.class_names, self.config.train
        here = _class_folders(self.folder)
        strange = sorted(set(here) - set(known))
        if strange:
            raise UserError(
                f"folder '{self.folder}' has class '{strange[0]}', which is missing from '{train}'; "
                "give both splits the same class folders"
            )
        _check_count(here, self.folder, split)
        found: dict[str, list[str]] = {name: [] for name in here}
        n_loose = 0
        for name in names:
            first, separator, _ = name.partition(os.sep)
            if separator:
                found[first].append(name)
            else:
                n_loose += 1
        if n_loose:
            logger.warning(
                "%d images beside the class folders of '%s' have no class and are left out; data.labels="
                "none uses all images", n_loose, self.folder,
            )  # fmt: skip
        for label in (label for label, images in found.items() if not images):
            logger.warning("class folder '%s' contains no images", self.folder / label)
        labels = np.array([known.index(label) for label in found], dtype=np.int64)
        counts = [len(images) for images in found.values()]
        return [name for images in found.values() for name in images], labels.repeat(counts)


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


def _from_table(
    config: Any, folder: Path, names: list[str]
) -> tuple[list[str], NDArray[np.int64]]:
    """Returns class names and the labels `(N,)` of images in a folder, -1 for images without one."""
    file = Path(config.labels).expanduser()
    columns = header(file)
    path, label = (usual(columns, what) for what in ("path", "label"))
    if path is None or label is None:
        raise UserError(
            f"table '{file}' needs a column 'path' and a column 'label'; it has: {', '.join(columns)}"
        )
    table = table_columns(file, [path, label])
    root = Path(config.root)
    listed = {os.path.normpath(one): mark for one, mark in zip(*table.values(), strict=True)}
    for one in listed:
        if not (root / one).is_file():
            raise UserError(
                f"table '{file}' lists '{one}', which is not in '{root}'; paths should be relative to it"
            )
    classes = sorted(set(listed.values()) - {""})
    places = {name: place for place, name in enumerate(classes)} | {"": -1}
    inner = os.path.relpath(folder, root)
    keys = [os.path.normpath(os.path.join(inner, name)) for name in names]
    labels = np.array([places[listed.get(key, "")] for key in keys], dtype=np.int64)
    if (labels < 0).all():
        raise UserError(
            f"table '{file}' has no label for an image in '{folder}'; its paths should be relative to "
            f"'{root}', such as '{keys[0]}'"
        )
    return classes, labels


def _class_folders(folder: Path) -> list[str]:
    names = subfolders(folder)
    splits = [name for name in names if name.lower() in USUAL_NAMES["train"]]
    if splits and all(name.lower() in _SPLIT_NAMES for name in names):
        raise UserError(
            f"the folders in '{folder}' are splits, not classes: {', '.join(names)}; set "
            f"data.train={splits[0]}"
        )
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


def _images(folder: Path) -> tuple[list[str], list[str]]:
    """Returns the paths of all images, and of all folders, relative to a folder.

    Raises:
        UserError: a folder below it cannot be read, or a package that images need is missing.
    """
    walk = Walk(folder)
    images, others, folders = list[str](), list[str](), list[str]()
    for level in walk:
        folders.append(level.name)
        images += [os.path.join(level.name, name) for name in level.files if is_image(name)]
        others += [name for name in level.files if not is_image(name)]
    walk.refuse_unreadable()
    tell_of_others(folder, others)
    check_packages(images)
    return images, folders
