"""Colour operations on whole batches, with separate parameters for each image.

Images are planes `(C, n, H, W)` of float32 in [0, 255]; channels are each contiguous, so operations that
mix them run over contiguous memory. 8-bit images have integer values (`rounded`). With three channels,
their results equal Pillow's, rounding included: torchvision's `ColorJitter` on Pillow images is
reproduced. Others are computed without rounding, as torchvision does for float images. Parameters are
`(n, 1, 1)`. For 8 bits everything is arithmetic, without `where` or comparisons of pixels, which torch
does not vectorise on CPUs.
"""

import torch
from torch import Tensor

_RED, _GREEN, _BLUE = 19595 / 65536, 38470 / 65536, 7471 / 65536


def luma(planes: Tensor, *, rounded: bool = True) -> Tensor:
    """Returns the grey value of each pixel, `(n, H, W)`, exactly as Pillow's conversion to `L`."""
    red, green, blue = planes.unbind(0)
    gray = torch.add(torch.tensor(0.5 if rounded else 0.0), red, alpha=_RED)
    gray.add_(green, alpha=_GREEN).add_(blue, alpha=_BLUE)
    return gray.floor_() if rounded else gray


def adjust_(
    planes: Tensor,
    factor: Tensor,
    *,
    contrast: Tensor,
    saturation: Tensor,
    rounded: bool = True,
) -> Tensor:
    """Changes brightness, contrast or saturation, in place.

    Values move from (factor above 1) or towards (below 1) an origin: black, the mean grey, or the
    pixel's own grey. As in Pillow's `ImageEnhance`, results are clipped to [0, 255] and, for integers,
    the fraction is dropped. Images that are not of three channels have no grey: the contrast of each
    channel changes around its own mean.

    Args:
        planes: `(C, n, H, W)`.
        factor: 1 leaves an image unchanged.
        contrast: 1 for images whose contrast changes, else 0.
        saturation: 1 for images whose saturation changes, else 0, as without three channels; if both are
            0, brightness changes.
        rounded: whether values are integers and remain so.
    """
    if len(planes) == 3:
        gray = luma(planes, rounded=rounded)
        mean = gray.mean((1, 2), keepdim=True)
    else:
        mean = planes.mean((2, 3), keepdim=True)  # (C, n, 1, 1)
    if rounded:
        mean.add_(0.5).floor_()
    origin = mean.mul_(contrast)
    if len(planes) == 3:
        origin = gray.mul_(saturation).add_(origin)
    # in Pillow's order (libImaging/Blend.c): torch.lerp rounds differently for factors above 0.5
    planes.sub_(origin).mul_(factor).add_(origin).clamp_(0, 255)
    return planes.floor_() if rounded else planes


def hue_steps(turn: Tensor) -> Tensor:
    """Returns the shift of Pillow's hue, which has 255 values, for a turn in [-0.5, 0.5]."""
    return (turn * 255).trunc()


def turn_hue_(planes: Tensor, steps: Tensor) -> Tensor:
    """Shifts the hue of integer values in place, using Pillow's `HSV` with 255 hues and 256
    saturations.

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
    """Returns Pillow's hue modulo 256, as an integer in [-43, 255)."""
    red, green, blue = planes.unbind(0)
    sector = green - blue
    green_sector = (blue - red).add_(chroma, alpha=2)
    blue_sector = (red - green).add_(chroma, alpha=4)
    # differences of integers: clipped at 1 they indicate that a channel is not the largest
    green_sector.lerp_(blue_sector, torch.sub(value, green).clamp_(max=1))
    sector.lerp_(green_sector, torch.sub(value, red, out=blue_sector).clamp_(max=1))
    # a quotient that is not an integer is at least 1 / 510 away from one
    hue = sector.div_(chroma.clamp(min=1)).mul_(42.5).add_(1e-3).floor_()
    return hue.add_(hue.clamp(-1, 0))  # Pillow wraps at 255, a byte at 256


def turn_hue_smoothly_(planes: Tensor, turn: Tensor) -> Tensor:
    """Shifts the hue in place, without rounding.

    Args:
        planes: `(3, n, H, W)`.
        turn: fraction of the colour circle, in [-0.5, 0.5].
    """
    red, green, blue = planes.unbind(0)
    value = planes.amax(0)
    chroma = value - planes.amin(0)
    share = 1 / chroma.clamp(min=1e-12)
    sector = torch.where(value == green, 2 + (blue - red) * share, 4 + (red - green) * share)
    sector = torch.where(value == red, (green - blue) * share, sector)
    hue = sector.add_(6 * turn)  # in sixths of the circle
    # Smith, "Color gamut transform pairs", 1978, in one line: value - chroma * part
    for channel, first in zip((red, green, blue), (5, 3, 1), strict=True):
        place = (hue + first).remainder_(6)
        channel.copy_(value - chroma * torch.minimum(place, 4 - place).clamp_(0, 1))
    return planes


def grayscale_(planes: Tensor, *, rounded: bool = True) -> Tensor:
    """Converts to grey, in place."""
    return planes.copy_(luma(planes, rounded=rounded).expand_as(planes))


def drop_channels_(planes: Tensor, drop: Tensor) -> Tensor:
    """Sets one channel of some images to 0, in place.

    Args:
        planes: `(C, n, H, W)`.
        drop: place of the channel among all, in [0, 1), `(n,)`; negative for none.
    """
    chosen = (drop * len(planes)).floor()  # negative for none
    for number, channel in enumerate(planes.unbind(0)):
        channel[(chosen == number).to(planes.device)] = 0
    return planes


def solarize_(planes: Tensor) -> Tensor:
    """Inverts values from 128 on, in place."""
    return planes.copy_(torch.where(planes >= 128, 255 - planes, planes))
