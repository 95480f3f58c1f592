"""Crop and resize, as Pillow's antialiased bilinear resize of a cropped image."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def interval_matrices(start: Tensor, length: Tensor, size_in: int, size_out: int) -> Tensor:
    """Returns the matrices that cut an interval out of a line of pixels and resize it.

    The weights are those of Pillow's `Image.resize` (`src/libImaging/Resize.c`, bilinear filter):
    a triangle that reaches one output pixel, at least one input pixel, to both sides, cut off at
    the interval's ends.

    Args:
        start: first pixel, `(n,)`.
        length: number of pixels, `(n,)`.
        size_in: pixels of the line.
        size_out: pixels after resizing.

    Returns:
        `(n, size_in, size_out)` float32; columns sum to one.
    """
    device = start.device
    start, length = start.view(-1, 1, 1), length.view(-1, 1, 1)
    scale = length / size_out
    pixel = torch.arange(size_in, device=device).view(1, -1, 1)
    middle = (torch.arange(size_out, device=device) + 0.5) * scale + start
    distance = (middle - (pixel + 0.5)).abs_().div_(scale.clamp(min=1))
    weights = (1 - distance).clamp_(min=0)
    weights *= (pixel >= start) & (pixel < start + length)
    return weights.div_(weights.sum(1, keepdim=True))


def crop_batch(images: Tensor, box: Tensor, flip: Tensor, size: int) -> Tensor:
    """Cuts one box out of each image, resizes it, and mirrors some.

    Args:
        images: `(n, 3, H, W)` uint8.
        box: top, left, height and width, `(n, 4)`.
        flip: `(n,)` bool.

    Returns:
        `(3, n, size, size)` float32 with whole numbers in [0, 255].
    """
    n, _, height, width = images.shape
    top, left, h, w = box.unbind(1)
    across = interval_matrices(left, w, width, size)
    across = torch.where(flip.view(-1, 1, 1), across.flip(2), across)
    down = interval_matrices(top, h, height, size).transpose(1, 2)
    lines = torch.bmm(images.to(torch.float32).view(n, 3 * height, width), across).round_()
    planes = lines.view(n, 3, height, size)
    out = images.new_empty((3, n, size, size), dtype=torch.float32)
    for channel in range(3):
        torch.bmm(down, planes[:, channel], out=out[channel])
    return out.round_()


def crop_list(images: Sequence[Tensor], box: Tensor, flip: Tensor, size: int) -> Tensor:
    """Cuts boxes out of images of any sizes.

    Args:
        images: B of `(3, H, W)` uint8.
        box: `(V, B, 4)`.
        flip: `(V, B)` bool.

    Returns:
        `(V * B, 3, size, size)` uint8.
    """
    n_views = box.shape[0]
    out = images[0].new_empty((n_views, len(images), 3, size, size))
    for column, image in enumerate(images):
        batch = image[None]
        boxes, mirrored = box[:, column].tolist(), flip[:, column].tolist()
        for view in range(n_views):
            top, left, h, w = boxes[view]
            part = batch[:, :, top : top + h, left : left + w]
            resized = F.interpolate(part, (size, size), mode="bilinear", antialias=True)
            out[view, column] = resized[0].flip(2) if mirrored[view] else resized[0]
    return out.flatten(0, 1)
