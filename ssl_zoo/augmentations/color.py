"""Colour operations on whole batches, each image with its own parameters.

Images are planes `(3, n, H, W)` of float32 that hold whole numbers in [0, 255]: red, green and
blue each lie together, so that everything that mixes channels runs over contiguous memory. Results
are Pillow's, rounding included: torchvision's `ColorJitter` on Pillow images is reproduced.
Parameters are `(n, 1, 1)`. Everything is arithmetic, without `where` or comparisons of pixels:
torch has no vector instructions for those on processors.
"""

import torch
from torch import Tensor

_RED, _GREEN, _BLUE = 19595 / 65536, 38470 / 65536, 7471 / 65536


def luma(planes: Tensor) -> Tensor:
    """Returns the grey value of each pixel, `(n, H, W)`, exactly as Pillow's conversion to `L`."""
    red, green, blue = planes.unbind(0)
    gray = torch.add(torch.tensor(0.5), red, alpha=_RED)
    return gray.add_(green, alpha=_GREEN).add_(blue, alpha=_BLUE).floor_()


def adjust_(planes: Tensor, factor: Tensor, *, contrast: Tensor, saturation: Tensor) -> Tensor:
    """Changes brightness, contrast or saturation, in place.

    Values move from (factor above 1) or towards (below 1) an origin: black, the mean grey, or the
    pixel's own grey. As in Pillow's `ImageEnhance`, results are cut to [0, 255] and the fraction
    is dropped.

    Args:
        planes: `(3, n, H, W)`.
        factor: 1 where there is nothing to do.
        contrast: 1 where contrast changes, else 0.
        saturation: 1 where saturation changes, else 0; with both 0 brightness changes.
    """
    gray = luma(planes)
    mean = gray.mean((1, 2), keepdim=True).add_(0.5).floor_()
    origin = gray.mul_(saturation).add_(mean.mul_(contrast))
    # in Pillow's order (libImaging/Blend.c): torch.lerp rounds otherwise for factors above 0.5
    return planes.sub_(origin).mul_(factor).add_(origin).clamp_(0, 255).floor_()


def hue_steps(turn: Tensor) -> Tensor:
    """Returns how far Pillow's hue of 255 values moves for a turn in [-0.5, 0.5]."""
    return (turn * 255).trunc()


def turn_hue_(planes: Tensor, steps: Tensor) -> Tensor:
    """Turns the hue in place, through Pillow's `HSV` of 255 hues and 256 saturations.

    Args:
        planes: `(3, n, H, W)`.
        steps: see `hue_steps`.
    """
    red, green, blue = planes.unbind(0)
    value = torch.maximum(red, green)
    torch.maximum(value, blue, out=value)
    low = torch.minimum(red, green)
    torch.minimum(low, blue, out=low)
    chroma = torch.sub(value, low, out=low)
    hue = _hue255(planes, value, chroma).add_(steps)
    hue.sub_((hue * (1 / 256)).floor_(), alpha=256).mul_(6 / 255)
    saturation = chroma.div_(value.clamp(min=1)).mul_(255).floor_()
    chroma = saturation.mul_(value).mul_(1 / 255)
    # from here on: value - chroma * part, where part is 0 to 1 and depends on channel and hue
    torch.sub(hue, hue.new_tensor([3.0, 2.0, 4.0]).view(3, 1, 1, 1), out=planes)
    red, green, blue = planes.abs_().clamp_(1, 2).unbind(0)
    torch.addcmul(value - chroma, red, chroma, out=red).sub_(chroma)
    base = value.add_(chroma)
    torch.addcmul(base, green, chroma, value=-1, out=green)
    torch.addcmul(base, blue, chroma, value=-1, out=blue)
    return planes.round_()


def _hue255(planes: Tensor, value: Tensor, chroma: Tensor) -> Tensor:
    """Returns Pillow's hue, a whole number in [-43, 255) that means the same modulo 256."""
    red, green, blue = planes.unbind(0)
    sector = green - blue
    green_sector = (blue - red).add_(chroma, alpha=2)
    blue_sector = (red - green).add_(chroma, alpha=4)
    # differences of whole numbers: cut at 1 they tell whether a channel is not the largest
    green_sector.lerp_(blue_sector, torch.sub(value, green).clamp_(max=1))
    sector.lerp_(green_sector, torch.sub(value, red, out=blue_sector).clamp_(max=1))
    # a quotient that is no whole number is at least 1 / 510 away from one
    hue = sector.div_(chroma.clamp(min=1)).mul_(42.5).add_(1e-3).floor_()
    return hue.add_(hue.clamp(-1, 0))  # Pillow wraps at 255, a byte at 256


def grayscale_(planes: Tensor) -> Tensor:
    """Replaces colour by grey, in place."""
    return planes.copy_(luma(planes).expand_as(planes))


def solarize_(planes: Tensor) -> Tensor:
    """Inverts values from 128 on, in place."""
    return planes.copy_(torch.where(planes >= 128, 255 - planes, planes))
