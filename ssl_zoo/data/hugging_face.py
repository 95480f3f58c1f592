"""Images of Hugging Face's `datasets`: `data=hf:NAME`, a folder of `save_to_disk`, Parquet with images."""

import functools
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from ssl_zoo.config import closest
from ssl_zoo.data import fingerprint as files
from ssl_zoo.data.base import DATASETS, Dataset, Split
from ssl_zoo.data.columns import USUAL_NAMES as USUAL_COLUMNS
from ssl_zoo.data.contents import USUAL_NAMES as USUAL_SPLITS
from ssl_zoo.data.decoding import read_bytes, read_image
from ssl_zoo.data.held_out import HeldOutConfig, held_out
from ssl_zoo.data.hub_files import image_columns, open_splits
from ssl_zoo.data.other_files import BadImage
from ssl_zoo.errors import UserError

_FINE = ("fine_label", "labels", "targets")
"""Further usual names of columns of labels."""
_AT_ONCE = 256  # images read together for a digest


@DATASETS.register
class HuggingFace(Dataset):
    """Images of a data set of Hugging Face's library `datasets`, decoded on demand."""

    class Config(HeldOutConfig, Dataset.Config):
        """Settings of a data set of Hugging Face."""

        name: Literal["hugging_face"] = "hugging_face"
        """Registered name."""
        path: str = Field(min_length=1)
        """`hf:NAME` on the Hub, a folder written by `save_to_disk`, a folder of Parquet files, or one."""
        subset: str | None = None
        """Configuration of a data set that has several."""
        revision: str | None = None
        """Commit, tag or branch on the Hub."""
        image: str = "image"
        """Column of the images."""
        label: str | None = None
        """Column of the classes: numbers or text, or a list of them for images with several classes."""
        train: str = "train"
        """Split of the training images."""
        test: str = "20%"
        """Split of the test images, or the share of the training images that is held out."""
        max_corrupt: int = Field(default=100, ge=0)
        """Number of images that may fail to decode before a run stops."""

    in_memory = False

    def __init__(self, config: Config, *, split: Split) -> None:
        self.config = config
        self.max_corrupt = config.max_corrupt
        share = config.share
        self._name = config.test if split == "test" and share is None else config.train
        named = [config.train] if share is not None else [config.train, config.test]
        parts = {name: _split(config, name) for name in named}
        self._part = parts[self._name]
        _check_column(config, self._part, config.image, "image")
        self.class_names: list[str] = []
        labels: NDArray[np.int64] | None = None
        if config.label is not None:
            self.class_names, found = _labels(config, parts)
            labels = found[self._name]
        rows = np.arange(len(self._part))
        if share is not None:
            chosen = held_out(
                [str(row).encode() for row in rows],
                share,
                seed=config.split_seed,
                labels=labels if labels is not None and labels.ndim == 1 else None,
            )
            rows = np.flatnonzero(chosen if split == "test" else ~chosen)
        self._rows = torch.from_numpy(rows)
        self.labels = None if labels is None else torch.from_numpy(labels[rows])

    def __len__(self) -> int:
        return len(self._rows)

    def load(self, indices: Tensor) -> list[Tensor | None] | Tensor:
        """Decodes the images at positions `(B,)`; None for an image that cannot be decoded.

        Raises:
            UserError: an image has other channels or bits than the data set.
        """
        places = indices.tolist()
        found: list[Tensor | None] = []
        for place, content in zip(places, self._contents(places), strict=True):
            try:
                found.append(self._decoded(place, content))
            except BadImage:
                found.append(None)
        return found

    def _contents(self, places: list[int]) -> list[Any]:
        """Returns what is stored of images: bytes, or bytes and a path."""
        rows = self._rows[torch.tensor(places, dtype=torch.int64)].tolist()
        column: list[Any] = self._part.select_columns([self.config.image])[rows][self.config.image]
        return column

    def _decoded(self, place: int, content: Any) -> Tensor:
        path = None
        if isinstance(content, dict):
            content, path = content["bytes"], content["path"]
        if content is not None:
            return read_bytes(bytes(content), functools.partial(self.describe, place), self.config)
        if not path:
            raise BadImage("no image in this row")
        return read_image(Path(path), self.config)

    def describe(self, index: int) -> str:
        """Returns data set, split and row of an image."""
        return f"{self.config.path}/{self._name}/{int(self._rows[index])}"

    def fault(self, index: int) -> str:
        """Returns why an image cannot be loaded; see `Dataset.fault`."""
        try:
            self._decoded(index, self._contents([index])[0])
        except BadImage as error:
            return str(error)
        return ""

    @functools.cached_property
    def image_digests(self) -> NDArray[np.uint64]:
        """Digests of row, stored bytes and label of each image, `(N,)`; of a split of more images than
        `fingerprint.WHOLE_FILES`, the bytes of `fingerprint.SAMPLED` at even distances."""
        n = len(self)
        whole = n <= files.WHOLE_FILES
        counted = (
            np.arange(n) if whole else np.unique(np.linspace(0, n - 1, files.SAMPLED).astype(int))
        )
        found = self._rows.numpy().astype(np.uint64)
        for start in range(0, len(counted), _AT_ONCE):
            places = counted[start : start + _AT_ONCE].tolist()
            found[places] = [files.short(_bytes_of(one)) for one in self._contents(places)]
        return files.with_labels(found, self.labels)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Digest of images, labels and classes."""
        names = (name.encode() for name in self.class_names)
        return files.combined(self.image_digests.tobytes(), *names)


def hub_settings(path: str, *, held_out: str) -> tuple[dict[str, Any], str]:
    """Returns the settings of a data set, and its content in words.

    Args:
        path: a folder, a Parquet file, `hf:NAME`, or `hf:NAME:SUBSET`.
        held_out: share of labelled images to hold out if there is no test split.

    Raises:
        UserError: it cannot be loaded, or has no images.
    """
    head, _, subset = path.rpartition(":")
    path, subset = (head, subset) if ":" in head else (path, "")
    splits = open_splits(path, subset or None, None)
    known = {name.lower(): name for name in splits}
    train, test = (
        next((known[name] for name in USUAL_SPLITS[split] if name in known), None)
        for split in ("train", "test")
    )
    train = train or next((name for name in splits if name != test), test)
    part = splits.get(train or "")
    images = image_columns(part) if part is not None else []
    if part is None or not images:
        columns = "no rows" if part is None else f"columns: {', '.join(part.column_names)}"
        raise UserError(f"data set '{path}' has no column of images; {columns}")
    label = _label_column(part)
    settings: dict[str, Any] = {"name": "hugging_face", "path": path}
    settings |= {"subset": subset} if subset else {}
    settings |= {"image": images[0], **({"label": label} if label else {}), "train": train}
    if test is None or test == train:
        test = held_out if label else train
    settings["test"] = test
    what = f"classes from column '{label}'" if label else "no labels"
    return settings, f"{len(part):,} images from column '{images[0]}', {what}"


def _label_column(part: Any) -> str | None:
    """Returns the column of classes: one of that type, first of the usual names, or one of such a name."""
    usual = (*USUAL_COLUMNS["label"], *_FINE)
    kinds: dict[str, str] = {
        name: type(_inner(kind)).__name__ for name, kind in part.features.items()
    }
    classes = [name for name, kind in kinds.items() if kind == "ClassLabel"]
    for names in (classes, [name for name, kind in kinds.items() if kind == "Value"]):
        lower = {name.lower(): name for name in names}
        for name in usual:
            if name in lower:
                return lower[name]
    return classes[0] if classes else None


def _inner(kind: Any) -> Any:
    return getattr(kind, "feature", kind)


def _split(config: Any, name: str) -> Any:
    splits = open_splits(config.path, config.subset, config.revision)
    if name not in splits:
        raise UserError(
            f"data set '{config.path}' has no split '{name}'.{closest(name, splits)} Splits: "
            f"{', '.join(splits)}; set data.train and data.test"
        )
    return splits[name]


def _check_column(config: Any, part: Any, name: str, what: str) -> None:
    if name not in part.column_names:
        raise UserError(
            f"data set '{config.path}' has no column '{name}'.{closest(name, part.column_names)} Columns: "
            f"{', '.join(part.column_names)}; set data.{what}"
        )
    if what == "image" and name not in image_columns(part):
        raise UserError(
            f"column '{name}' of data set '{config.path}' does not hold images; set data.image to one "
            f"that does: {', '.join(image_columns(part)) or 'none'}"
        )


def _labels(config: Any, parts: dict[str, Any]) -> tuple[list[str], dict[str, NDArray[np.int64]]]:
    """Returns class names, and labels `(N,)` or `(N, C)` of each split."""
    for part in parts.values():
        _check_column(config, part, config.label, "label")
    columns = {name: list(part[config.label]) for name, part in parts.items()}
    stated = getattr(_inner(next(iter(parts.values())).features[config.label]), "names", None)
    several = any(isinstance(one, list) for values in columns.values() for one in values)
    sets = {
        name: [
            one if isinstance(one, list) else [] if one in (None, "") else [one] for one in values
        ]
        for name, values in columns.items()
    }
    flat = [value for values in sets.values() for one in values for value in one]
    bad = [value for value in flat if not isinstance(value, int | str)]
    if bad:
        raise UserError(
            f"column '{config.label}' of data set '{config.path}' contains {type(bad[0]).__name__}; labels "
            "are whole numbers or text; set data.label"
        )
    present = set(flat) - {-1}
    keys = (
        list(range(len(stated)))
        if stated
        else sorted(present, key=lambda one: (str(type(one)), one))
    )
    places = {key: place for place, key in enumerate(keys)}
    if strange := sorted(map(str, present - places.keys())):
        raise UserError(
            f"column '{config.label}' of data set '{config.path}' contains {strange[0]}, but its classes "
            f"are 0 to {len(keys) - 1}; set data.label"
        )
    names = list(stated or map(str, keys))
    found = {}
    for split, values in sets.items():
        if several:
            marks = np.zeros((len(values), len(names)), dtype=np.int64)
            for row, one in enumerate(values):
                marks[row, [places[value] for value in one if value in places]] = 1
            found[split] = marks
        else:
            found[split] = np.array([places.get(one[0], -1) if one else -1 for one in values])
    return names, found


def _bytes_of(content: Any) -> bytes:
    if isinstance(content, dict):
        return bytes(content["bytes"] or b"") + str(content["path"] or "").encode()
    return bytes(content or b"")
