"""Gaussian blur as in Pillow: three box blurs, applied as one matrix along each axis."""

import functools
import itertools

import torch
from torch import Tensor
from torch.nn import functional as F

_BAND = 56  # pixels; shorter ones cost more in calls than they save in arithmetic


def box_radius(sigma: Tensor) -> Tensor:
    """Returns the radius of the box blur that, applied three times, has this standard deviation.

    From Pillow's `_gaussian_blur_radius` (`src/libImaging/BoxBlur.c`), after Gwosdek et al.,
    "Theoretical foundations of Gaussian convolution by extended box filtering" (2011); 3 passes.
    """
    variance = sigma * sigma / 3
    whole = ((torch.sqrt(12 * variance + 1) - 1) / 2).floor()
    fraction = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance)
    return whole + fraction / (6 * (variance - (whole + 1) ** 2))


def blur_coefficients(sigma: Tensor) -> Tensor:
    """Returns the coefficient of each matrix of `blur_basis` in each blur.

    A box of radius l + a, with an integer l, is (T + a E) / (2 l + 1 + 2 a): T sums 2 l + 1 pixels, E
    the two next to them. Three boxes are a polynomial in a whose coefficients are fixed matrices.

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
    """Returns the matrices whose linear combinations are blurs of lines of `size` pixels.

    Pixels beyond the edge repeat the last one.

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
    # weights that sum to slightly above 1 round ties up, as Pillow does
    return (torch.stack(matrices).flatten(1) * (1 + 4e-6)).float().to(device)


def blur_(planes: Tensor, coefficients: Tensor, *, rounded: bool = True) -> Tensor:
    """Blurs in place.

    Args:
        planes: `(C, n, S, S)` float32.
        coefficients: see `blur_coefficients`, `(n, 4 * L)`.
        rounded: whether values are integers and remain so.
    """
    size = planes.shape[2]
    n_whole = coefficients.shape[1] // 4
    basis = blur_basis(size, n_whole, planes.device)
    matrices = (coefficients @ basis).view(-1, size, size)
    lines = torch.empty_like(planes[0])
    bands = _bands(size, 3 * n_whole)
    for channel in planes.unbind(0):
        for made, used in bands:
            across = matrices[:, made, used].transpose(1, 2)
            torch.bmm(channel[:, :, used], across, out=lines[:, :, made])
        if rounded:
            lines.round_()
        for made, used in bands:
            torch.bmm(matrices[:, made, used], lines[:, used], out=channel[:, made])
    return planes.round_() if rounded else planes


def _bands(size: int, reach: int) -> list[tuple[slice, slice]]:
    """Returns bands of pixels and the pixels they depend on; matrices are 0 elsewhere."""
    n_bands = max(1, size // _BAND)
    edges = [size * number // n_bands for number in range(n_bands + 1)]
    return [
        (slice(start, stop), slice(max(0, start - reach), min(size, stop + reach)))
        for start, stop in itertools.pairwise(edges)
    ]
