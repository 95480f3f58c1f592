"""Crop and resize, equal to Pillow's antialiased bilinear resize of a cropped image."""

import functools
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

_TABLE_BYTES = 16 * 1024 * 1024


def interval_matrices(start: Tensor, length: Tensor, size_in: int, size_out: int) -> Tensor:
    """Returns the matrices that crop an interval of a line of pixels and resize it.

    The weights are those of Pillow's `Image.resize` (`src/libImaging/Resize.c`, bilinear filter):
    a triangle that extends one output pixel, but at least one input pixel, to both sides,
    truncated at the interval's ends.

    Args:
        start: first pixel, `(n,)`.
        length: number of pixels, `(n,)`.
        size_in: length of the line, in pixels.
        size_out: length after resizing, in pixels.

    Returns:
        `(n, size_in, size_out)` float32.
    """
    start, length = start.view(-1, 1, 1), length.view(-1, 1, 1)
    if size_in <= size_out:
        return _enlarging(start, length, size_in, size_out)
    shrinking = _shrinking(start.float(), length.float(), size_in, size_out)
    enlarging = _enlarging(start, length.clamp(max=size_out), size_in, size_out)
    return torch.where(length > size_out, shrinking, enlarging)


def _shrinking(start: Tensor, length: Tensor, size_in: int, size_out: int) -> Tensor:
    """Returns weights that sum to a little above 1, to break ties upwards as Pillow does."""
    scale = length / size_out
    pixel = torch.arange(size_in, device=start.device).view(1, -1, 1) + 0.5
    middle = (torch.arange(size_out, device=start.device) + 0.5) * scale + start
    weights = (middle - pixel).abs_().div_(scale.clamp(min=1)).neg_().add_(1).clamp_(min=0)
    half = length / 2
    weights *= (half + 0.5 - (pixel - start - half).abs_()).clamp_(0, 1)  # 1 inside, 0 outside
    return weights.mul_((1 + 4e-6) / weights.sum(1, keepdim=True))


def _enlarging(start: Tensor, length: Tensor, size_in: int, size_out: int) -> Tensor:
    """Returns the weights of two neighbours for each output pixel, rounded by `_rounded_parts`."""
    part = 2 * size_out  # of a pixel's width; positions are multiples of a part
    middle = (2 * torch.arange(size_out, device=start.device) + 1) * length
    # beyond the centre of the first or last pixel there is no neighbour to mix with
    middle = middle.clamp_(min=size_out).minimum((2 * length - 1) * size_out).sub_(size_out)
    pixel = middle.div(part, rounding_mode="floor")  # (n, 1, size_out)
    share = middle - pixel * part
    pixel += start
    pixels = torch.cat([pixel, (pixel + 1).clamp_(max=size_in - 1)], 1)
    weights = _rounded_parts(size_out, start.device)[torch.cat([part - share, share], 1)]
    matrices = weights.new_zeros((len(start), size_in, size_out))
    return matrices.scatter_add_(1, pixels, weights)


@functools.lru_cache(maxsize=8)
def _rounded_parts(size_out: int, device: torch.device) -> Tensor:
    """Returns 0 to 2 * size_out parts of 1 / (2 * size_out), rounded so that sums round as in Pillow.

    The sum of two neighbours is at a tie, or at least one part away from a tie. At a tie Pillow's
    result depends on how its weights were rounded to 22 binary digits. These weights have 16, so
    products with bytes and their sums are exact in float32, and lie on the same side of the true
    weight as Pillow's. For up to 128 pixels their error, at most 255 / 2**16, is less than a part;
    no sum was found to round differently at 160 to 256.
    """
    whole = 2 * size_out
    parts = torch.arange(whole + 1, device=device)
    fine = (2**22 * parts + size_out).div(whole, rounding_mode="floor")
    above = fine * whole > 2**22 * parts
    return (2**16 * parts).div(whole, rounding_mode="floor").add_(above) / 2**16


@functools.lru_cache(maxsize=8)
def _interval_table(size_in: int, size_out: int, device: torch.device) -> Tensor:
    """Returns the matrices of all intervals by length and start, followed by their mirror images."""
    lengths = torch.arange(1, size_in + 1)
    counts = size_in + 1 - lengths
    length = lengths.repeat_interleave(counts)
    start = torch.arange(len(length)) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    matrices = interval_matrices(start, length, size_in, size_out)
    return torch.cat([matrices, matrices.flip(2)]).to(device)


def _matrices(start: Tensor, length: Tensor, flip: Tensor, size_in: int, size_out: int) -> Tensor:
    """Returns `interval_matrices`, some mirrored, from a table if it is small enough."""
    n_intervals = size_in * (size_in + 1) // 2
    if 8 * n_intervals * size_in * size_out > _TABLE_BYTES:
        matrices = interval_matrices(start, length, size_in, size_out)
        return torch.where(flip.view(-1, 1, 1), matrices.flip(2), matrices)
    table = _interval_table(size_in, size_out, start.device)
    shorter = length - 1
    index = shorter * (size_in + 1) - shorter * length // 2 + start
    return table.index_select(0, index + flip * n_intervals)


def crop_batch(images: Tensor, box: Tensor, flip: Tensor, size: int) -> Tensor:
    """Crops one box of each image, resizes it, and mirrors some.

    Args:
        images: `(n, C, H, W)`, uint8 or float32 in [0, 1].
        box: top, left, height and width, `(n, 4)`.
        flip: `(n,)` bool.

    Returns:
        `(C, n, size, size)` float32 in [0, 255], with integer values for uint8 images.
    """
    n, channels, height, width = images.shape
    top, left, h, w = box.unbind(1)
    across = _matrices(left, w, flip, width, size)
    down = _matrices(top, h, torch.zeros_like(flip), height, size).transpose(1, 2)
    rounded = not images.is_floating_point()
    lines = torch.bmm(images.to(torch.float32).view(n, channels * height, width), across)
    planes = (_round_(lines) if rounded else lines).view(n, channels, height, size)
    out = lines.new_empty((channels, n, size, size))
    for channel in range(channels):
        torch.bmm(down, planes[:, channel], out=out[channel])
    return _round_(out) if rounded else out.mul_(255)


def _round_(values: Tensor) -> Tensor:
    return values.add_(0.5).floor_()


def as_batch(image: Tensor) -> Tensor:
    """Returns an image `(C, H, W)` as `(1, C, H, W)` in a memory order that torch recognises.

    `image[None]` hides that channels are last: torch looks at the stride of the new axis too, and then
    resizes three times slower.
    """
    return image.permute(1, 2, 0)[None].permute(0, 3, 1, 2)


def resized_crop(image: Tensor, box: Sequence[int], size: int) -> Tensor:
    """Returns a box of an image `(C, H, W)`, resized to `(C, size, size)` as Pillow does.

    It is fastest, and the result in the same order, for an image in channels-last memory order.

    Args:
        image: uint8 or float32.
        box: top, left, height and width.
        size: height and width of the result.
    """
    top, left, height, width = box
    part = as_batch(image)[..., top : top + height, left : left + width]
    return F.interpolate(part, (size, size), mode="bilinear", antialias=True)[0]


def crop_list(images: Sequence[Tensor], box: Tensor, flip: Tensor, size: int) -> Tensor:
    """Crops one box of each image of any size, resizes it, and mirrors some.

    Args:
        images: n of `(C, H, W)`, uint8 or float32 in [0, 1]; fastest in channels-last memory order.
        box: top, left, height and width, `(n, 4)`.
        flip: `(n,)` bool.

    Returns:
        `(C, n, size, size)` float32 in [0, 255], with integer values for uint8 images.
    """
    first = images[0]
    out = torch.empty((first.shape[0], len(images), size, size), device=first.device)
    for row, (image, corners, mirrored) in enumerate(
        zip(images, box.tolist(), flip.tolist(), strict=True)
    ):
        view = resized_crop(image, corners, size)
        out[:, row] = view.flip(2) if mirrored else view
    return out.mul_(255) if first.is_floating_point() else out
