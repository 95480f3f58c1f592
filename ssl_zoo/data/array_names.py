"""What a file of arrays holds, by the usual names of its arrays."""

from pathlib import Path
from typing import Any

import numpy as np

from ssl_zoo.data.array_file import ArrayKind, array_kinds, read_values
from ssl_zoo.data.decoding import bits_of
from ssl_zoo.errors import UserError

IMAGES = (
    "x_train",
    "train_x",
    "train_images",
    "images_train",
    "x",
    "images",
    "image",
    "data",
    "arr_0",
)
LABELS = (
    "y_train",
    "train_y",
    "train_labels",
    "labels_train",
    "y",
    "labels",
    "label",
    "targets",
    "arr_1",
)
TEST_IMAGES = (
    *("x_test", "test_x", "test_images", "images_test"),
    *("x_val", "val_x", "val_images", "images_val"),
)
TEST_LABELS = (
    *("y_test", "test_y", "test_labels", "labels_test"),
    *("y_val", "val_y", "val_labels", "labels_val"),
)
"""Usual names of arrays, in lower case: those of Keras, of MedMNIST, and of `numpy.savez`."""
_SAMPLED = 200  # images of which values are looked at


def array_settings(file: Path, *, held_out: str) -> tuple[dict[str, Any], str]:
    """Returns the settings of a file of arrays, and its content in words.

    Args:
        file: the file, .npz or .npy.
        held_out: share of labelled images to hold out if there are no test images.

    Raises:
        UserError: no array is one of images.
    """
    kinds = array_kinds(file)
    found = {
        key: _usual(kinds, names)
        for key, names in (
            ("images", IMAGES),
            ("labels", LABELS),
            ("test_images", TEST_IMAGES),
            ("test_labels", TEST_LABELS),
        )
    }
    images = found["images"]
    if images is None:
        raise UserError(
            f"'{file}' has no array of images with a usual name, such as x_train; name it: data=arrays "
            f"data.file={file} data.images=NAME; arrays: {_listed(kinds)}"
        )
    settings: dict[str, Any] = {"name": "arrays", "file": str(file)}
    settings |= {key: value for key, value in found.items() if value is not None}
    if found["test_images"] is None:
        settings.pop("test_labels", None)
        settings["test"] = held_out if found["labels"] is not None else "train"
    kind = kinds[images]
    layout, height, width, channels = _axes(file, images, kind)
    settings["layout"] = layout
    settings |= _pixels(file, images, kind, channels)
    what = "labels" if found["labels"] is not None else "no labels"
    how = "compressed" if kind.start is None else "not compressed"
    return settings, f"{kind.shape[0]:,} images, {what}, {width}x{height} pixels, {how}"


def _usual(kinds: dict[str, ArrayKind], names: tuple[str, ...]) -> str | None:
    known = {name.lower(): name for name in kinds}
    return next((known[name] for name in names if name in known), None)


def _axes(file: Path, name: str, kind: ArrayKind) -> tuple[str, int, int, int]:
    """Returns layout, height, width and channels; the channels are the shorter outer axis."""
    shape = kind.shape
    if len(shape) == 4:
        if shape[3] <= shape[1]:
            return "NHWC", shape[1], shape[2], shape[3]
        return "NCHW", shape[2], shape[3], shape[1]
    if len(shape) == 3 and shape[2] > 4:
        return "NHW", shape[1], shape[2], 1
    raise UserError(
        f"array '{name}' of shape {shape} in '{file}' does not hold images; store (N, H, W), (N, H, W, C) or "
        "(N, C, H, W); an image in a file of its own belongs into a folder: data=FOLDER"
    )


def _pixels(file: Path, name: str, kind: ArrayKind, channels: int) -> dict[str, Any]:
    """Returns channels, bits and range of values, except those that have their default."""
    found: dict[str, Any] = {} if channels in (1, 3) else {"channels": channels}
    bits = bits_of(kind.dtype)
    if bits != 8:
        found["bits"] = bits
    if bits == 32 and kind.dtype.kind in "uif":
        values = read_values(file, name)
        rows = np.unique(np.linspace(0, len(values) - 1, _SAMPLED).astype(int))
        some = values[rows]
        some = some[np.isfinite(some)]
        low, high = (float(some.min()), float(some.max())) if some.size else (0.0, 1.0)
        if low >= 0 and 1 < high <= 255:
            low, high = 0.0, 255.0
        if low < high and (low < 0 or high > 1):
            found["value_range"] = [low, high]
    return found


def _listed(kinds: dict[str, ArrayKind]) -> str:
    return ", ".join(f"{name} {kind.shape}" for name, kind in kinds.items()) or "none"
