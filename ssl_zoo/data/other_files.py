"""Image files that Pillow does not read: arrays of NumPy, TIFF of any kind, DICOM."""

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_zoo.augmentations.pillow import Raster
from ssl_zoo.data.base import Dataset
from ssl_zoo.errors import UserError

MAX_PIXELS = 178_956_970
"""Largest number of pixels of an image: a small file can claim to hold more than fit into memory.
This is the limit at which Pillow refuses an image."""
_ALPHA = (1, 2)  # kinds of extra samples that are opacity, in TIFF


class BadImage(Exception):
    """An image cannot be loaded; the message is the reason, empty if it cannot be decoded."""


def check_size(n_pixels: int) -> None:
    """Raises `BadImage` if an image has more than `MAX_PIXELS` pixels."""
    if n_pixels > MAX_PIXELS:
        raise too_large()


def too_large() -> BadImage:
    """Returns the error for an image of more than `MAX_PIXELS` pixels."""
    return BadImage(f"more pixels than the limit of {MAX_PIXELS:,}")


def read_array(path: Path, wanted: Dataset.Config) -> Raster:
    """Returns the image in a `.npy` file: `(H, W)`, `(H, W, C)` or `(C, H, W)`.

    The channels are the last axis if it has as many as the data set or one, else the first.

    Raises:
        UserError: no axis has the channels of the data set, or values are not real numbers.
    """
    values: NDArray[Any] = np.load(path, allow_pickle=False)
    if values.dtype.kind not in "uif":
        raise UserError(
            f"array '{path}' has values of type {values.dtype}; store uint8, uint16 or float32"
        )
    if values.ndim == 2:
        return Raster(values[:, :, None])
    if values.ndim != 3:
        raise UserError(
            f"array '{path}' of shape {values.shape} is not an image; store (H, W), (H, W, C) or "
            "(C, H, W), or move it away"
        )
    for axis in (2, 0):
        if values.shape[axis] in (wanted.channels, 1):
            return Raster(_last(values, axis))
    fewest = min(values.shape[0], values.shape[2])
    raise UserError(
        f"array '{path}' of shape {values.shape} has no axis of data.channels={wanted.channels}; "
        f"set data.channels={fewest}, with data.mean and data.std to match"
    )


def read_tiff(path: Path, wanted: Dataset.Config) -> Raster:
    """Returns the first image of a TIFF; its channels are samples, planes or the channels of a stack.

    Raises:
        UserError: it has further axes, or a package is missing.
    """
    if importlib.util.find_spec("tifffile") is None:
        raise UserError(f"image '{path}' needs tifffile; install it: pip install 'ssl-zoo[tiff]'")
    tifffile: Any = importlib.import_module("tifffile")
    try:
        with tifffile.TiffFile(path) as file:
            series, page = file.series[0], file.pages[0]
            check_size(page.imagewidth * page.imagelength)
            values, axes = series.asarray(), str(series.axes)
            alpha = any(int(kind) in _ALPHA for kind in page.extrasamples)
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        raise UserError(
            f"image '{path}' is compressed ({str(error).split(' requires')[0]}), which needs imagecodecs; "
            "install it: pip install 'ssl-zoo[tiff]'"
        ) from None
    values = values[
        tuple(0 if axis in "IQ" else slice(None) for axis in axes)
    ]  # the first of many
    axes = axes.replace("I", "").replace("Q", "")
    if sorted(axes.replace("S", "C")) not in (["X", "Y"], ["C", "X", "Y"]):
        raise UserError(
            f"image '{path}' has axes {axes}, but only rows (Y), columns (X) and channels (C or S) are "
            "read; split it into images"
        )
    if len(axes) == 2:
        return Raster(values[:, :, None])
    return Raster(_last(values, axes.replace("S", "C").index("C")), alpha=alpha)


def read_dicom(path: Path, wanted: Dataset.Config) -> Raster:
    """Returns the first frame of a DICOM file, inverted if low values are meant to be bright.

    For data sets of 32 bits these are the rescaled values, such as Hounsfield units; otherwise those that
    are stored.
    """
    pydicom: Any = importlib.import_module("pydicom")
    file = pydicom.dcmread(path)
    check_size(int(file.Rows) * int(file.Columns))
    values: NDArray[Any] = file.pixel_array
    if int(file.get("NumberOfFrames", 1) or 1) > 1:
        values = values[0]
    if values.ndim == 2:
        values = values[:, :, None]
    if wanted.bits == 32:
        slope, shift = file.get("RescaleSlope", 1), file.get("RescaleIntercept", 0)
        values = (values * float(slope) + float(shift)).astype(np.float32)
    if file.get("PhotometricInterpretation") == "MONOCHROME1":
        values = _inverted(values, file, wanted)
    return Raster(values)


def _inverted(values: NDArray[Any], file: Any, wanted: Dataset.Config) -> NDArray[Any]:
    if wanted.bits == 32:
        low, high = wanted.value_range or (0, 1)
        turned: NDArray[Any] = (low + high - values).astype(np.float32)
        return turned
    stored: NDArray[Any] = (2 ** int(file.BitsStored) - 1 - values).astype(values.dtype)
    return stored


def _last(values: NDArray[Any], axis: int) -> NDArray[Any]:
    """Returns an array with an axis moved to the end."""
    return np.ascontiguousarray(np.moveaxis(values, axis, -1))
