"""Images in arrays of NumPy: a `.npz` file with images and labels, or a `.npy` file with images."""

import functools
import hashlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import model_validator
from torch import Tensor

from ssl_zoo.data.array_file import ALONE, read_values
from ssl_zoo.data.base import DATASETS, Dataset, Split
from ssl_zoo.data.decoding import bits_of, scaled
from ssl_zoo.data.fingerprint import short, with_labels
from ssl_zoo.data.held_out import HeldOutConfig, held_out
from ssl_zoo.data.other_files import BadImage
from ssl_zoo.data.tensor_dataset import TensorDataset
from ssl_zoo.errors import UserError

MAPPED = 2**30
"""Bytes of images above which they stay in the file, mapped into memory, if it allows that."""
_AT_ONCE = 1024  # images of which a digest is made together

Layout = Literal["NHWC", "NCHW", "NHW"]


@DATASETS.register
class Arrays(TensorDataset):
    """Images in a `.npz` or `.npy` file, of 8 bits or scaled to [0, 1].

    Images of 8 bits of more than 1 GiB stay in the file, mapped into memory, unless it is compressed or a
    share of them is held out; all others are copied into memory.
    """

    class Config(HeldOutConfig, Dataset.Config):
        """Settings of images in arrays."""

        name: Literal["arrays"] = "arrays"
        """Registered name."""
        file: str
        """The file: .npz or .npy."""
        images: str = ALONE
        """Name of the array of training images."""
        labels: str | None = None
        """Name of their labels: classes `(N,)`, -1 for none, or 0 and 1 for each class `(N, C)`."""
        test_images: str | None = None
        """Name of the array of test images."""
        test_labels: str | None = None
        """Name of their labels."""
        layout: Layout = "NHWC"
        """Axes of the images: number, height, width, channels."""
        test: str = "20%"
        """Share of the images that is held out, or `train` for the training images themselves; used
        without `test_images`."""

        @model_validator(mode="after")
        def _check(self) -> "Arrays.Config":
            if self.share is None and self.test != "train":
                raise ValueError(
                    f"test is '{self.test}', but should be a share to hold out, such as 20%, or 'train'; "
                    "an array of test images is test_images"
                )
            if self.test_labels is not None and self.test_images is None:
                raise ValueError(
                    f"test_labels is '{self.test_labels}' without test images; set test_images"
                )
            return self

    def __init__(self, config: Config, *, split: Split) -> None:
        self.config = config
        own_test = split == "test" and config.test_images is not None
        name = str(config.test_images if own_test else config.images)
        values = _images(config, name)
        self.class_names, labels = _labels(config, len(values), of_test=own_test)
        share = None if config.test_images is not None else config.share
        if share is not None:
            chosen = held_out(
                [str(row).encode() for row in range(len(values))],
                share,
                seed=config.split_seed,
                labels=labels if labels is not None and labels.ndim == 1 else None,
            )
            rows = np.flatnonzero(chosen if split == "test" else ~chosen)
            values = values[rows]
            labels = None if labels is None else labels[rows]
        self.labels = None if labels is None else torch.from_numpy(labels)
        self.images = _tensor(config, name, values)

    def load(self, indices: Tensor) -> Tensor:
        """Returns the images at positions `(B,)`, `(B, C, H, W)`."""
        return self.images[indices].contiguous()

    @functools.cached_property
    def fingerprint(self) -> str:
        """Digest of shape, values and labels."""
        digest = hashlib.sha256(str(tuple(self.images.shape)).encode())
        for start in range(0, len(self), _AT_ONCE):
            some = self.images[start : start + _AT_ONCE].contiguous()
            digest.update(some.numpy().data)
        if self.labels is not None:
            digest.update(self.labels.numpy().data)
        return digest.hexdigest()[:16]

    @functools.cached_property
    def image_digests(self) -> NDArray[np.uint64]:
        """Digests of values and label of each image, `(N,)`."""
        found = [short(image.numpy().tobytes()) for image in self.images]
        return with_labels(np.array(found, dtype=np.uint64), self.labels)


def _images(config: Any, name: str) -> NDArray[Any]:
    """Returns images `(N, C, H, W)` as they are stored.

    Raises:
        UserError: their shape, type or channels are not those of the settings.
    """
    values = read_values(Path(config.file).expanduser(), name)
    what = f"array '{name}' of shape {values.shape} in '{config.file}'"
    if values.ndim != len(config.layout) or 0 in values.shape:
        raise UserError(
            f"{what} does not hold images in the layout {config.layout}; set data.layout to NHWC, NCHW "
            "or NHW, or store images that way"
        )
    if values.dtype.kind not in "uif":
        raise UserError(
            f"{what} has values of type {values.dtype}; store uint8, uint16 or float32"
        )
    if (bits := bits_of(values.dtype)) != config.bits:
        raise UserError(
            f"{what} has values of type {values.dtype}, but data.bits={config.bits}; set "
            f"data.bits={bits}, and data.mean and data.std to match"
        )
    if config.layout == "NHW":
        values = values[:, None]
    elif config.layout == "NHWC":
        values = np.moveaxis(values, 3, 1)
    n_channels = values.shape[1]
    if n_channels not in (config.channels, 1) or (
        n_channels == 1 and config.channels not in (1, 3)
    ):
        raise UserError(
            f"{what} has {n_channels} channels, but data.channels={config.channels}; set "
            f"data.channels={n_channels} with data.mean and data.std to match, or data.layout"
        )
    return values


def _tensor(config: Any, name: str, values: NDArray[Any]) -> Tensor:
    """Returns images `(N, C, H, W)`, uint8 or float32 in [0, 1]; grey ones are expanded."""
    maps = isinstance(values, np.memmap) and values.dtype == np.uint8 and values.nbytes > MAPPED
    if not maps:
        try:
            values = np.array(scaled(values, config), order="C")
        except BadImage as error:
            raise UserError(f"array '{name}' in '{config.file}' has {error}") from None
    images = torch.from_numpy(values).expand(-1, config.channels, -1, -1)
    return images if maps else images.contiguous()


def _labels(
    config: Any, n_images: int, *, of_test: bool
) -> tuple[list[str], NDArray[np.int64] | None]:
    """Returns the names of all classes, and the labels of a split."""
    named = [("images", config.labels), ("test_images", config.test_labels)]
    values = {what: _column(config.file, name) for what, name in named if name is not None}
    if not values:
        return [], None
    several = {what: one for what, one in values.items() if one.ndim == 2}
    if several:
        names = [str(place) for place in range(next(iter(several.values())).shape[1])]
        found = {what: _marks(one, len(names), config) for what, one in values.items()}
    else:
        classes = np.unique(np.concatenate([one[_is_known(one)] for one in values.values()]))
        names = [str(name) for name in classes.tolist()]
        found = {
            what: np.where(_is_known(one), np.searchsorted(classes, one), -1).astype(np.int64)
            for what, one in values.items()
        }
    labels = found.get("test_images" if of_test else "images")
    if labels is not None and len(labels) != n_images:
        name = config.test_labels if of_test else config.labels
        raise UserError(
            f"'{config.file}' has {len(labels)} labels in '{name}' for {n_images} images; store one for "
            "each, or set data.labels and data.test_labels"
        )
    return names, labels


def _column(file: str, name: str) -> NDArray[Any]:
    """Returns labels `(N,)` of numbers or text, or `(N, C)`."""
    values = np.array(read_values(Path(file).expanduser(), name))
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim == 2 and values.dtype.kind in "buif" and _is_one_hot(values):
        values = values.argmax(axis=1)
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8")
    whole = values.dtype.kind in "bui" or (
        values.dtype.kind == "f" and bool((values == np.floor(values)).all())
    )
    if values.ndim not in (1, 2) or not (whole or (values.dtype.kind == "U" and values.ndim == 1)):
        raise UserError(
            f"array '{name}' of shape {values.shape} and type {values.dtype} in '{file}' does not hold "
            "labels; store one whole number or text per image, or 0 and 1 for each class"
        )
    return values.astype(np.int64) if whole else values


def _is_one_hot(values: NDArray[Any]) -> bool:
    """Returns whether each row is 1 at one place and 0 elsewhere."""
    return bool(np.isin(values, (0, 1)).all() and (values.sum(axis=1) == 1).all())


def _is_known(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Returns which labels `(N,)` are not missing, which -1 or empty text means."""
    known: NDArray[np.bool_] = values != "" if values.dtype.kind == "U" else values >= 0
    return known


def _marks(values: NDArray[Any], n_classes: int, config: Any) -> NDArray[np.int64]:
    if values.ndim != 2 or values.shape[1] != n_classes or not np.isin(values, (0, 1)).all():
        raise UserError(
            f"labels of several classes in '{config.file}' should be 0 or 1 for each of {n_classes} "
            f"classes in all splits; one array has shape {values.shape}"
        )
    return values
