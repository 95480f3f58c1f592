"""Gaussian blur as Pillow does it: three box blurs, here as one matrix along each axis."""

import torch
from torch import Tensor


def box_radius(sigma: Tensor) -> Tensor:
    """Returns the radius of the box whose threefold blur has a standard deviation.

    From Pillow's `_gaussian_blur_radius` (`src/libImaging/BoxBlur.c`), after Gwosdek et al.,
    "Theoretical foundations of Gaussian convolution by extended box filtering" (2011); 3 passes.
    """
    variance = sigma * sigma / 3
    whole = ((torch.sqrt(12 * variance + 1) - 1) / 2).floor()
    fraction = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance)
    return whole + fraction / (6 * (variance - (whole + 1) ** 2))


def blur_matrices(sigma: Tensor, size: int) -> Tensor:
    """Returns the matrix of each blur, `(n, size, size)`; edges go on as their last pixel."""
    radius = box_radius(sigma.double())
    line = torch.arange(size, device=sigma.device)
    once = sigma.new_zeros((len(sigma), size, size), dtype=torch.float64)
    reach = int(radius.max().ceil()) if len(sigma) else 0
    for offset in range(-reach, reach + 1):
        weight = (radius + 1 - abs(offset)).clamp(0, 1).view(-1, 1, 1)
        pixel = (line + offset).clamp(0, size - 1)
        once += weight * torch.nn.functional.one_hot(pixel, size).double()
    once /= (2 * radius + 1).view(-1, 1, 1)
    return (once @ once @ once).float()


def blur_(planes: Tensor, sigma: Tensor) -> Tensor:
    """Blurs in place.

    Args:
        planes: `(3, n, H, W)`.
        sigma: standard deviation in pixels, `(n,)`, all above 0.
    """
    down = blur_matrices(sigma, planes.shape[2])
    across = down.transpose(1, 2)
    for channel in planes.unbind(0):
        lines = torch.bmm(channel, across).round_()
        torch.bmm(down, lines, out=channel)
    return planes.round_()
