"""From uint8 views to what a network takes."""

from collections.abc import Sequence

import torch
from torch import Tensor


def normalize(
    views: Tensor, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype = torch.float32
) -> Tensor:
    """Returns (views / 255 - mean) / std on the device of the views.

    Args:
        views: `(..., 3, H, W)` uint8.
        mean: of each channel, for values in [0, 1].
        std: of each channel, for values in [0, 1].
        dtype: of the result; arithmetic is float32.
    """
    shape = (3, 1, 1)
    deviation = torch.tensor(std, dtype=torch.float32)
    scale = (1 / (255 * deviation)).view(shape).to(views.device)
    shift = (torch.tensor(mean, dtype=torch.float32) / deviation).view(shape).to(views.device)
    return views.to(torch.float32).mul_(scale).sub_(shift).to(dtype)
