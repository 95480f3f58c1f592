"""Colour operations on whole batches, each image with its own parameters.

Images are planes `(3, n, H, W)` of float32 that hold whole numbers in [0, 255]: red, green and
blue each lie together, so that everything that mixes channels runs over contiguous memory. Results
are Pillow's, rounding included: torchvision's `ColorJitter` on Pillow images is reproduced.
"""

import torch
from torch import Tensor

_RED, _GREEN, _BLUE = 19595 / 65536, 38470 / 65536, 7471 / 65536


def luma(planes: Tensor) -> Tensor:
    """Returns the grey value of each pixel, `(n, H, W)`, exactly as Pillow's conversion to `L`."""
    red, green, blue = planes.unbind(0)
    gray = torch.add(torch.full_like(red, 0.5), red, alpha=_RED)
    return gray.add_(green, alpha=_GREEN).add_(blue, alpha=_BLUE).floor_()


def blend_(planes: Tensor, origin: Tensor, factor: Tensor) -> Tensor:
    """Moves each value away from (factor > 1) or towards (factor < 1) an origin, in place.

    This is Pillow's `ImageEnhance`: results are cut to [0, 255], then the fraction is dropped.

    Args:
        planes: `(3, n, H, W)`.
        origin: `(n, H, W)` or `(n, 1, 1)`.
        factor: `(n,)`.
    """
    torch.lerp(origin.expand_as(planes), planes, factor.view(-1, 1, 1), out=planes)
    return planes.clamp_(0, 255).floor_()


def adjust_(planes: Tensor, operation: Tensor, factor: Tensor) -> Tensor:
    """Changes brightness, contrast or saturation, in place.

    Args:
        planes: `(3, n, H, W)`.
        operation: 0 brightness, 1 contrast, 2 saturation, 4 nothing; `(n,)`.
        factor: `(n,)`; must be 1 where there is nothing to do.
    """
    operation = operation.view(-1, 1, 1)
    gray = luma(planes)
    mean = gray.mean((1, 2), keepdim=True).add_(0.5).floor_()
    origin = torch.addcmul(mean * (operation == 1), gray, (operation == 2).to(gray.dtype))
    return blend_(planes, origin, factor)


def turn_hue_(planes: Tensor, turn: Tensor) -> Tensor:
    """Turns the hue in place, through Pillow's `HSV` of 255 hues and 256 saturations.

    Args:
        planes: `(3, n, H, W)`.
        turn: `(n,)` in [-0.5, 0.5]; one is a full turn.
    """
    red, green, blue = planes.unbind(0)
    value = torch.maximum(red, green)
    torch.maximum(value, blue, out=value)
    low = torch.minimum(red, green)
    torch.minimum(low, blue, out=low)
    chroma = value - low
    hue = _hue255(planes, value, chroma)
    hue += (turn * 255).trunc().view(-1, 1, 1)
    hue.sub_((hue * (1 / 256)).floor_(), alpha=256).mul_(6 / 255)
    saturation = (chroma / value.clamp(min=1)).mul_(255).floor_()
    saturation.mul_(value).mul_(-1 / 255)
    return _from_hue_(planes, hue, value, saturation)


def _hue255(planes: Tensor, value: Tensor, chroma: Tensor) -> Tensor:
    """Returns Pillow's hue, a whole number in [-43, 255) that means the same modulo 256."""
    below_red, below_green, below_blue = (value - planes).unbind(0)
    sector = below_blue - below_green
    green_sector = (below_red - below_blue).add_(chroma, alpha=2)
    blue_sector = (below_green - below_red).add_(chroma, alpha=4)
    green_sector.lerp_(blue_sector, below_green.clamp_(max=1))
    sector.lerp_(green_sector, below_red.clamp_(max=1))
    # a quotient that is no whole number is at least 1 / 510 away from one
    hue = sector.div_(chroma.clamp(min=1)).mul_(42.5).add_(1e-3).floor_()
    return hue.add_(hue.clamp(-1, 0))  # Pillow wraps at 255, a byte at 256


def _from_hue_(planes: Tensor, hue: Tensor, value: Tensor, drop: Tensor) -> Tensor:
    """Writes colours of a hue in [0, 6]; `drop` is minus chroma."""
    shape = (3, 1, 1, 1)
    centers = hue.new_tensor([3.0, 2.0, 4.0]).view(shape)
    signs = hue.new_tensor([-1.0, 1.0, 1.0]).view(shape)
    offsets = hue.new_tensor([2.0, -1.0, -1.0]).view(shape)
    torch.sub(hue, centers, out=planes)
    planes.abs_().mul_(signs).add_(offsets).clamp_(0, 1)
    return planes.mul_(drop).add_(value).round_()


def grayscale_(planes: Tensor) -> Tensor:
    """Replaces colour by grey, in place."""
    return planes.copy_(luma(planes).expand_as(planes))


def solarize_(planes: Tensor) -> Tensor:
    """Inverts values from 128 on, in place."""
    return planes.copy_(torch.where(planes >= 128, 255 - planes, planes))
