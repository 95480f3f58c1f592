"""The view used for evaluation, and the normalisation of views."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_zoo.augmentations.base import Augmentation
from ssl_zoo.augmentations.geometry import as_batch
from ssl_zoo.augmentations.pillow import pixels_of, with_channels

if TYPE_CHECKING:
    from PIL.Image import Image

Interpolation = Literal["bilinear", "bicubic"]

PHOTO_MARGIN = 256 / 224
"""Ratio of a photograph's shorter side, before its centre is cropped, to the side of the crop."""
_CACHED_VALUES = 2**17


def evaluation_view(
    images: Tensor | Sequence[Tensor],
    size: int,
    *,
    resize: int | None = None,
    interpolation: Interpolation = "bilinear",
) -> Tensor:
    """Resizes the shorter side with antialiasing and crops the centre, as torchvision does.

    Args:
        images: `(B, C, H, W)`, or B of `(C, H, W)`; uint8, or float32 in [0, 1].
        size: height and width of the view; images of this size are returned unchanged.
        resize: length of the shorter side before cropping; `size` by default.
        interpolation: `bilinear`, or `bicubic` as in DINO's protocol.

    Returns:
        `(B, C, size, size)` of the same type.

    Raises:
        ValueError: `resize` is smaller than `size`.
    """
    side = size if resize is None else resize
    if side < size:
        raise ValueError(
            f"resize of {side} is smaller than the view of {size}; make it {size} or more"
        )
    if not isinstance(images, Tensor):
        views = [_view(as_batch(image), size, side, interpolation) for image in images]
        return torch.cat(views) if views else torch.empty((0, 3, size, size), dtype=torch.uint8)
    return _view(images, size, side, interpolation)


def _view(images: Tensor, size: int, side: int, interpolation: Interpolation) -> Tensor:
    height, width = images.shape[-2:]
    if (height, width) == (size, size):
        return images.contiguous()
    if min(height, width) != side:
        short, long = min(height, width), max(height, width)
        length = int(side * long / short)
        height, width = (length, side) if height > width else (side, length)
        images = F.interpolate(images, (height, width), mode=interpolation, antialias=True)
        if images.is_floating_point():  # bicubic weights are partly negative
            images = images.clamp_(0, 1)
    top, left = round((height - size) / 2), round((width - size) / 2)
    return images[..., top : top + size, left : left + size].contiguous()


@dataclass(frozen=True)
class EvaluationTransform:
    """Turns images into what a network is scored on: resized, cut and normalised.

    Attributes:
        image_size: height and width of the crop, in pixels.
        resize: shorter side before the crop, in pixels.
        mean: of each channel, for values in [0, 1].
        std: of each channel, for values in [0, 1].
        interpolation: `bicubic`, which most evaluators see, or `bilinear`.
        bits: 8 for uint8 images; 16 or 32 for float32 in [0, 1].
    """

    image_size: int
    resize: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: Interpolation = "bicubic"
    bits: int = 8

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return len(self.mean)

    def __call__(self, image: "Image | Tensor") -> Tensor:
        """Returns float32 `(C, image_size, image_size)` of an image, `(B, C, ...)` of a batch.

        Args:
            image: uint8 `(C, H, W)` or `(B, C, H, W)`, or of Pillow in any mode; if `bits` is not 8, only
                float32 in [0, 1].

        Raises:
            TypeError: it is something else.
        """
        pixels = image if isinstance(image, Tensor) else self._pixels(image)
        dtype, channels = (torch.uint8 if self.bits == 8 else torch.float32), self.channels
        if pixels.dtype != dtype or pixels.dim() not in (3, 4) or pixels.shape[-3] != channels:
            kind, also = (
                ("uint8", ", or an image of Pillow")
                if self.bits == 8
                else ("float32 in [0, 1]", "")
            )
            raise TypeError(
                f"a {pixels.dtype} tensor of shape {tuple(pixels.shape)} is not an image; give {kind} "
                f"of shape ({channels}, H, W) or (B, {channels}, H, W){also}"
            )
        batch = pixels if pixels.dim() == 4 else pixels[None]
        views = evaluation_view(
            batch, self.image_size, resize=self.resize, interpolation=self.interpolation
        )
        found = normalize(views, self.mean, self.std)
        return found if pixels.dim() == 4 else found[0]

    def _pixels(self, image: Any) -> Tensor:
        """Returns the pixels of a Pillow image, `(C, H, W)` uint8, read as from a file."""
        from PIL import Image

        if not isinstance(image, Image.Image):
            raise TypeError(
                f"{type(image).__name__} is not an image; give one of Pillow, or a tensor"
            )
        found = with_channels(pixels_of(image), self.channels)
        if found is None:
            raise TypeError(
                f"an image of mode {image.mode} does not have {self.channels} channels; give a tensor"
            )
        return torch.from_numpy(found.values).permute(2, 0, 1)


class PlainView(Augmentation[None]):
    """The evaluation view instead of random views, for passes over the training images.

    Args:
        size: height and width in pixels.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.view_counts = {size: 1}

    def draw(self, sizes: Tensor, keys: Tensor) -> None:
        """Draws nothing."""

    def apply(self, images: Tensor | Sequence[Tensor], params: None) -> list[Tensor]:
        """Returns one tensor `(1, B, C, size, size)`; see `evaluation_view`."""
        return [evaluation_view(images, self.size)[None]]


def normalize(
    views: Tensor, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype = torch.float32
) -> Tensor:
    """Returns (values - mean) / std on the device of the views, for values in [0, 1].

    Args:
        views: `(..., C, H, W)`, uint8 or in [0, 1].
        mean: mean of each channel.
        std: standard deviation of each channel.
        dtype: type of the result; arithmetic is float32.
    """
    top = 1 if views.is_floating_point() else 255
    scale, shift = _affine(tuple(mean), tuple(std), top, views.device)
    last = views.movedim(-3, -1)
    if views.device.type != "cpu" or views.is_contiguous() or not last.is_contiguous():
        return views.to(torch.float32, copy=True).mul_(scale).sub_(shift).to(dtype)
    # channels last: whole lines at once, as torch works on three values at a time otherwise, and in
    # pieces that stay in the processor's cache
    width = last.shape[-2]
    scale, shift = scale.flatten().repeat(width), shift.flatten().repeat(width)
    found = _large_pages(last.shape, dtype)
    rows, out = last.view(-1, len(scale)), found.view(-1, len(scale))
    n_rows = max(1, _CACHED_VALUES // len(scale))
    for start in range(0, len(rows), n_rows):
        part, wanted = rows[start : start + n_rows], out[start : start + n_rows]
        if dtype == torch.float32:
            wanted.copy_(part).mul_(scale).sub_(shift)
        else:
            wanted.copy_(part.to(torch.float32, copy=True).mul_(scale).sub_(shift))
    return found.movedim(-1, -3)


def _large_pages(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Returns memory as `torch.empty` does, a batch of it in a quarter of the time.

    numpy asks Linux for large pages, torch only if the environment sets THP_MEM_ALLOC_ENABLE.
    """
    memory = np.empty(math.prod(shape) * dtype.itemsize, dtype=np.uint8)
    return torch.from_numpy(memory).view(dtype).view(*shape)


@lru_cache(maxsize=8)
def _affine(
    mean: tuple[float, ...], std: tuple[float, ...], top: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Returns factor and offset, `(C, 1, 1)`; cached to avoid a synchronising copy each step."""
    deviation = torch.tensor(std, dtype=torch.float32).view(-1, 1, 1)
    shift = torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1) / deviation
    return (1 / (top * deviation)).to(device), shift.to(device)
