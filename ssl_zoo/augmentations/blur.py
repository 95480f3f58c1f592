"""Gaussian blur as Pillow does it: three box blurs, here as one matrix along each axis."""

import functools

import torch
from torch import Tensor
from torch.nn import functional as F


def box_radius(sigma: Tensor) -> Tensor:
    """Returns the radius of the box whose threefold blur has a standard deviation.

    From Pillow's `_gaussian_blur_radius` (`src/libImaging/BoxBlur.c`), after Gwosdek et al.,
    "Theoretical foundations of Gaussian convolution by extended box filtering" (2011); 3 passes.
    """
    variance = sigma * sigma / 3
    whole = ((torch.sqrt(12 * variance + 1) - 1) / 2).floor()
    fraction = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance)
    return whole + fraction / (6 * (variance - (whole + 1) ** 2))


def blur_coefficients(sigma: Tensor) -> Tensor:
    """Returns the share of each matrix of `blur_basis` in each blur.

    A box of radius l + a, with a whole l, is (T + a E) / (2 l + 1 + 2 a): T sums 2 l + 1 pixels, E the
    two next to them. Three of them are a polynomial in a whose coefficients are fixed matrices.

    Args:
        sigma: standard deviation in pixels, `(n,)`; 0 gives the identity.

    Returns:
        `(n, 4 * L)` float32, where L is the largest l + 1.
    """
    radius = box_radius(sigma.double())
    whole = radius.floor()
    fraction = radius - whole
    powers = torch.stack([fraction**power for power in range(4)], 1)
    powers /= (2 * radius + 1).view(-1, 1) ** 3
    n_whole = int(whole.max()) + 1 if len(sigma) else 1
    place = F.one_hot(whole.long(), n_whole).to(powers.dtype)
    return (place[:, :, None] * powers[:, None, :]).flatten(1).float()


@functools.lru_cache(maxsize=32)
def blur_basis(size: int, n_whole: int, device: torch.device) -> Tensor:
    """Returns the matrices that blurs of lines of `size` pixels are sums of.

    Pixels beyond the edge are equal to the last one.

    Returns:
        `(4 * n_whole, size * size)` float32.
    """
    line = torch.arange(size)

    def shifted(offset: int) -> Tensor:
        return F.one_hot((line + offset).clamp(0, size - 1), size).double()

    matrices = []
    box = torch.zeros((size, size), dtype=torch.float64)
    for whole in range(n_whole):
        box = box + (shifted(whole) + shifted(-whole) if whole else shifted(0))
        edge = shifted(whole + 1) + shifted(-whole - 1)
        matrices += [
            box @ box @ box,
            box @ box @ edge + box @ edge @ box + edge @ box @ box,
            box @ edge @ edge + edge @ box @ edge + edge @ edge @ box,
            edge @ edge @ edge,
        ]
    # weights a little above 1 in sum break ties upwards, as Pillow does
    return (torch.stack(matrices).flatten(1) * (1 + 4e-6)).float().to(device)


def blur_(planes: Tensor, coefficients: Tensor) -> Tensor:
    """Blurs in place.

    Args:
        planes: `(3, n, S, S)` float32 with whole numbers.
        coefficients: see `blur_coefficients`, `(n, 4 * L)`.
    """
    size = planes.shape[2]
    basis = blur_basis(size, coefficients.shape[1] // 4, planes.device)
    down = (coefficients @ basis).view(-1, size, size)
    across = down.transpose(1, 2)
    for channel in planes.unbind(0):
        torch.bmm(down, torch.bmm(channel, across).round_(), out=channel)
    return planes.round_()
