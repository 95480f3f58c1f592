"""Pillow images as arrays: upright, with the colours that a viewer shows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

_ORIENTATION = 0x0112  # tag of EXIF
_TURNS: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    2: lambda values: values[:, ::-1],
    3: lambda values: values[::-1, ::-1],
    4: lambda values: values[::-1],
    5: lambda values: values.swapaxes(0, 1),
    6: lambda values: values[::-1].swapaxes(0, 1),
    7: lambda values: values[::-1, ::-1].swapaxes(0, 1),
    8: lambda values: values[:, ::-1].swapaxes(0, 1),
}
"""What each EXIF orientation asks for; 1 is upright."""


@dataclass(frozen=True)
class Raster:
    """The values of an image.

    Attributes:
        values: `(H, W, C)`.
        alpha: whether the last channel is the opacity.
    """

    values: NDArray[Any]
    alpha: bool = False

    @property
    def channels(self) -> int:
        """Number of channels, opacity among them."""
        return int(self.values.shape[2])


def pixels_of(image: "Image") -> Raster:
    """Returns the 8-bit values of a Pillow image, turned as its EXIF orientation says.

    Grey images have one channel. Palettes, CMYK and other colour spaces become RGB. Opacity is the last
    channel.
    """
    image = upright(image)
    if image.has_transparency_data:
        grey = image.mode in ("L", "LA", "La", "1")
        return Raster(np.array(image.convert("LA" if grey else "RGBA")), alpha=True)
    if image.mode in ("1", "L"):
        return Raster(np.array(image.convert("L"))[:, :, None])
    if image.mode == "RGBX":
        return Raster(np.array(image))
    return Raster(np.array(image.convert("RGB")))


def turned(values: NDArray[Any], image: "Image") -> NDArray[Any]:
    """Returns values `(H, W, C)` that were decoded elsewhere, turned as an image's EXIF orientation says."""
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # Pillow raises a dozen types on damaged metadata
        return values
    return values if turn is None else np.ascontiguousarray(turn(values))


def upright(image: "Image") -> "Image":
    """Returns an image turned as its EXIF orientation says; unreadable EXIF data is ignored."""
    from PIL import ImageOps

    image.load()  # which turns a TIFF already, and removes its orientation
    try:
        turned = image.getexif().get(_ORIENTATION, 1) != 1
        return ImageOps.exif_transpose(image) if turned else image
    except Exception:  # Pillow raises a dozen types on damaged metadata
        return image


def over_white(pixels: Raster) -> Raster:
    """Returns an image without opacity as it looks on white paper; opaque pixels keep their value."""
    colours, opacity = pixels.values[:, :, :-1], pixels.values[:, :, -1:]
    if colours.dtype.kind == "f":
        return Raster(colours * opacity + (1 - opacity))
    top = int(np.iinfo(colours.dtype).max)
    mixed = colours.astype(np.uint64) * opacity + np.uint64(top) * (top - opacity)
    return Raster(((mixed + top // 2) // top).astype(colours.dtype))


def with_channels(pixels: Raster, channels: int) -> Raster | None:
    """Returns an image with the wanted number of channels; None if it has another number.

    Opacity is kept if it is one of the wanted channels, else the image is put on white. Grey is
    expanded to three channels.
    """
    if pixels.channels != channels and pixels.alpha:
        pixels = over_white(pixels)
    if pixels.channels == 1 and channels == 3:
        return Raster(np.repeat(pixels.values, 3, axis=2))
    return pixels if pixels.channels == channels else None
