"""Reads an image file of any kind as a tensor with the channels and bits of its data set.

Pillow reads JPEG, PNG, WebP, BMP, PPM, GIF and 8-bit TIFF; tifffile, pillow-heif and pydicom, which are
optional, read the rest. simplejpeg, if installed, decodes JPEG to the same values in less time.
"""

import functools
import importlib
import importlib.util
import io
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_zoo.augmentations.pillow import Raster, pixels_of, turned, upright, with_channels
from ssl_zoo.data import other_files
from ssl_zoo.data.base import Bits, Dataset
from ssl_zoo.data.other_files import BadImage, check_size, too_large
from ssl_zoo.data.walk import reason_of
from ssl_zoo.errors import UserError

PACKAGES = {
    **dict.fromkeys((".heic", ".heif"), ("pillow_heif", "pillow-heif", "heic")),
    **dict.fromkeys((".dcm", ".dicom"), ("pydicom", "pydicom", "dicom")),
}
"""Module, package and extra that files with an ending need."""
_TIFF = (".tif", ".tiff")
_JPEG_COLOURS = {"RGB": "RGB", "L": "GRAY"}
_DIVISORS = (8, 4, 2)
"""Parts of its size at which a JPEG can be decoded directly, by a smaller cosine transform."""
_PNG_DEPTH = 24  # byte of a PNG file with the bits of a value


def check_packages(names: Iterable[str]) -> None:
    """Looks for the packages that files with these names need.

    Raises:
        UserError: one is not installed.
    """
    for ending in {Path(name).suffix.lower() for name in names} & PACKAGES.keys():
        module, package, extra = PACKAGES[ending]
        if importlib.util.find_spec(module) is None:
            raise UserError(
                f"images '*{ending}' need {package}; install it: pip install 'ssl-zoo[{extra}]'"
            )


def read_image(path: Path, wanted: Dataset.Config, *, shrink_to: int | None = None) -> Tensor:
    """Returns an image `(C, H, W)`: uint8 if its data set has 8 bits, else float32 in [0, 1].

    Args:
        path: the file.
        wanted: channels and bits of the data set.
        shrink_to: shorter side in pixels that a JPEG keeps when it is decoded at a half, quarter or
            eighth of its size; None decodes at full size.

    Raises:
        BadImage: the file cannot be read or decoded.
        UserError: it has other channels or bits, or a package is missing.
    """
    found = read_raster(path, wanted, shrink_to=shrink_to)
    return _as_wanted(found, path.__str__, wanted)


def read_bytes(
    content: bytes,
    name: Callable[[], str],
    wanted: Dataset.Config,
    *,
    shrink_to: int | None = None,
) -> Tensor:
    """Returns the image in the bytes of a file, as `read_image` does; Pillow reads it, at 8 bits.

    Args:
        content: the bytes.
        name: returns the name of the image, for errors.
        wanted: channels and bits of the data set.
        shrink_to: see `read_image`.

    Raises:
        BadImage: the bytes cannot be decoded.
        UserError: the image has other channels or bits.
    """
    Image = _pillow()
    try:
        with Image.open(io.BytesIO(content)) as image:
            check_size(image.width * image.height)
            deep = image.format == "PNG" and content[_PNG_DEPTH] == 16
            if deep or _cut_off(image):
                raise UserError(
                    f"image '{name()}' has more than 8 bits, which are only read from files of their own; "
                    "save the images as files, and set data=FOLDER"
                )
            if image.format == "JPEG":
                found = _read_jpeg(image, _divisor(image, shrink_to))
            else:
                found = pixels_of(image)
    except (BadImage, UserError):
        raise
    except Image.DecompressionBombError:
        raise too_large() from None
    except Exception:  # decoders raise a dozen types on damaged files
        raise BadImage("") from None
    return _as_wanted(found, name, wanted)


def _as_wanted(found: Raster, name: Callable[[], str], wanted: Dataset.Config) -> Tensor:
    """Returns values with the channels and bits of a data set, `(C, H, W)`."""
    bits = bits_of(found.values.dtype)
    if bits != wanted.bits:
        raise UserError(
            f"image '{name()}' has {_depth(found.values.dtype)}, but data.bits={wanted.bits}; "
            f"set data.bits={bits}, and data.mean and data.std to match, or convert the images"
        )
    image = with_channels(found, wanted.channels)
    if image is None:
        raise UserError(
            f"image '{name()}' has {found.channels} channel{'s' * (found.channels > 1)}, but "
            f"data.channels={wanted.channels}; set data.channels={found.channels}, with data.mean and "
            "data.std to match, or convert the images"
        )
    return torch.from_numpy(scaled(image.values, wanted)).permute(2, 0, 1)


def read_raster(path: Path, wanted: Dataset.Config, *, shrink_to: int | None = None) -> Raster:
    """Returns the values in a file as they are, whatever channels and bits they have.

    Args:
        path: the file.
        wanted: channels and bits that are expected, which decide how ambiguous files are read.
        shrink_to: see `read_image`.

    Raises:
        BadImage: the file cannot be read or decoded.
        UserError: a package is missing.
    """
    try:
        reader = _reader(path, wanted)
        return (
            _read_pillow(path, wanted, shrink_to)
            if reader is _read_pillow
            else reader(path, wanted)
        )
    except (BadImage, UserError):
        raise
    except _pillow().DecompressionBombError:
        raise too_large() from None
    except OSError as error:  # Pillow raises it without a number for damaged files
        raise BadImage(reason_of(error) if error.errno else "") from None
    except Exception:  # decoders raise a dozen types on damaged files
        raise BadImage("") from None


def _reader(path: Path, wanted: Dataset.Config) -> Callable[[Path, Dataset.Config], Raster]:
    """Returns the function that reads a file."""
    ending = path.suffix.lower()
    if ending in PACKAGES:
        check_packages([path.name])
    if ending == ".npy":
        return other_files.read_array
    if ending in (".dcm", ".dicom"):
        return other_files.read_dicom
    if ending in _TIFF and (wanted.channels, wanted.bits) not in ((1, 8), (3, 8)):
        return other_files.read_tiff
    return _read_pillow


def _read_pillow(path: Path, wanted: Dataset.Config, shrink_to: int | None = None) -> Raster:
    Image = _pillow()
    if path.suffix.lower() in (".heic", ".heif"):
        _register_heif()
    try:
        with Image.open(path) as image:
            check_size(image.width * image.height)
            if image.format == "PNG" and _png_bits(path) == 16:
                return _read_png(path)
            if image.format == "TIFF" and image.mode[:1] in "IF":
                return Raster(np.array(image)[:, :, None])
            if _cut_off(image):
                raise UserError(
                    f"image '{path}' has more than 8 bits, which cannot be read from {image.format}; "
                    "convert the images to PNG, TIFF or .npy"
                )
            if image.format == "JPEG":
                return _read_jpeg(image, _divisor(image, shrink_to))
            return pixels_of(image)
    except Image.UnidentifiedImageError:
        if path.suffix.lower() not in _TIFF:
            raise
        if importlib.util.find_spec("tifffile") is None:
            raise BadImage(
                "not read by Pillow; perhaps by tifffile: pip install 'ssl-zoo[tiff]'"
            ) from None
        return other_files.read_tiff(path, wanted)


def _read_jpeg(image: Any, divisor: int = 1) -> Raster:
    """Returns an open JPEG at a part of its size, with the values that Pillow decodes.

    simplejpeg takes a sixth less time. What is unusual is left to Pillow.
    """
    if image.mode in _JPEG_COLOURS and _simplejpeg() is not None:
        image.fp.seek(0)
        width, height = (-(-side // divisor) if divisor > 1 else 0 for side in image.size)
        try:
            values = _simplejpeg().decode_jpeg(
                image.fp.read(),
                _JPEG_COLOURS[image.mode],
                min_height=height,
                min_width=width,
                min_factor=divisor,
            )
        except ValueError:  # damaged, or of a kind that it does not read
            image.fp.seek(0)
        else:
            return Raster(turned(values, image))
    if divisor > 1:
        image.draft(image.mode, tuple(side // divisor for side in image.size))
    return pixels_of(image)


def _divisor(image: Any, shrink_to: int | None) -> int:
    """Returns the largest divisor of the sides of a JPEG that leaves the shorter one long enough."""
    if shrink_to is None:
        return 1
    return next((by for by in _DIVISORS if -(-min(image.size) // by) >= shrink_to), 1)


def _png_bits(path: Path) -> int:
    with path.open("rb") as file:
        return file.read(_PNG_DEPTH + 1)[_PNG_DEPTH]


def _cut_off(image: Any) -> bool:
    """Returns whether Pillow would cut values to 8 bits."""
    if image.mode.partition(";")[0] in ("I", "F"):
        return True
    bits = 8
    if image.format == "TIFF":
        bits = max(image.tag_v2.get(258, (8,)))
    if image.format == "PPM" and image.tile and isinstance(image.tile[0].args, tuple):
        bits = 16 if image.tile[0].args[-1] > 255 else 8
    return bool(bits > 8)


def _read_png(path: Path) -> Raster:
    """Returns a PNG of 16 bits.

    Of several channels Pillow keeps one byte, the first of big-endian values. The other one it takes to be
    the first if the values are declared little-endian.
    """
    Image = _pillow()
    bytes_of: list[NDArray[np.uint8]] = []
    for order in ("B", "L"):
        with Image.open(path) as image:
            raw = str(image.tile[0][3])
            if raw == "I;16B":
                return Raster(np.array(upright(image)).astype(np.uint16)[:, :, None])
            if raw == "LA;16B":
                raise UserError(
                    f"image '{path}' is grey with opacity in 16 bits, which is not read; remove the opacity"
                )
            image.tile = [(*image.tile[0][:3], raw.replace(";16B", f";16{order}"))]
            bytes_of.append(np.array(upright(image)))
    high, low = bytes_of
    values = high.astype(np.uint16) * 256 + low
    return Raster(values, alpha=values.shape[2] == 4)


def bits_of(dtype: "np.dtype[Any]") -> Bits:
    """Returns the depth of values of a type."""
    known: dict[tuple[str, int], Bits] = {("u", 1): 8, ("u", 2): 16}
    return known.get((dtype.kind, dtype.itemsize), 32)


def _depth(dtype: "np.dtype[Any]") -> str:
    known = {"uint8": "8 bits", "uint16": "16 bits"}
    return known.get(dtype.name, f"values of type {dtype.name}")


def scaled(values: NDArray[Any], wanted: Dataset.Config) -> NDArray[Any]:
    """Returns values as data sets hold them: uint8 as it is, others as float32 in [0, 1].

    Args:
        values: of any shape, with the bits of the data set.
        wanted: bits and range of values of the data set.

    Raises:
        BadImage: values are not finite.
    """
    if wanted.bits == 8:
        return values
    low, high = wanted.value_range or ((0, 65535) if wanted.bits == 16 else (0, 1))
    found = values.astype(np.float64) if values.dtype.itemsize > 2 else values.astype(np.float32)
    if not np.isfinite(found).all():
        raise BadImage("values that are not finite")
    found -= low
    found /= high - low
    return found.clip(0, 1).astype(np.float32)


@functools.cache
def _register_heif() -> None:
    importlib.import_module("pillow_heif").register_heif_opener()


@functools.cache
def _simplejpeg() -> Any:
    """Returns the module of simplejpeg; None if it is not installed, or cannot be imported."""
    try:
        return importlib.import_module("simplejpeg")
    except (ImportError, OSError):
        return None


@functools.cache
def _pillow() -> Any:
    """Returns Pillow's module, which from then on does not warn at half its limit of pixels."""
    from PIL import Image

    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    return Image
