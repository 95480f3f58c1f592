"""The parameters of views, and how they are drawn: one row of numbers per view and image.

Every number is a function of the image's key only, so views do not depend on the batch, the rank, the
worker or the order in which images are requested.
"""

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ssl_zoo.augmentations import random

BRIGHTNESS, CONTRAST, SATURATION, HUE, NOTHING = range(5)

_FLIP, _JITTER, _GRAYSCALE, _BLUR, _SIGMA, _SOLARIZE, _DROP, _DROPPED = range(8)
_FACTORS = 10  # one stream per factor, four of them
_ORDER = 20  # one stream per operation, four of them
_BOX = 100  # four streams per attempt
_TRIES = 10


@dataclass(frozen=True)
class ViewParams:
    """Parameters of all views of one size.

    Attributes:
        box: top, left, height and width of the crop in pixels, `(V, B, 4)` int64.
        flip: whether the view is mirrored, `(V, B)` bool.
        order: the operation at each of four positions, `(V, B, 4)` int64; `NOTHING` without jitter.
        factors: factors of brightness, contrast and saturation, and the hue shift in
            [-0.5, 0.5], `(V, B, 4)` float32.
        grayscale: `(V, B)` bool.
        sigma: standard deviation of the blur in pixels, 0 for none, `(V, B)` float32.
        solarize: `(V, B)` bool.
        drop: channel that is set to 0, as a place in [0, 1) among all; -1 for none, `(V, B)` float32.
    """

    box: Tensor
    flip: Tensor
    order: Tensor
    factors: Tensor
    grayscale: Tensor
    sigma: Tensor
    solarize: Tensor
    drop: Tensor

    def rows(self) -> "ViewParams":
        """Returns the same parameters with views and images on one axis, `(V * B, ...)`."""
        return ViewParams(*(getattr(self, item.name).flatten(0, 1) for item in fields(self)))

    def of_image(self, place: int) -> "ViewParams":
        """Returns the rows of one image, `(V, 1, ...)`."""
        return ViewParams(
            *(getattr(self, item.name)[:, place : place + 1] for item in fields(self))
        )

    def take(self, index: Tensor) -> "ViewParams":
        """Returns some rows of a `rows()` result."""
        return ViewParams(*(getattr(self, item.name)[index] for item in fields(self)))


def concatenate(parts: list[ViewParams]) -> ViewParams:
    """Concatenates the views of several draws."""
    return ViewParams(
        *(torch.cat([getattr(part, item.name) for part in parts]) for item in fields(ViewParams))
    )


def draw_box(
    sizes: Tensor, keys: Tensor, *, scale: tuple[float, float], ratio: tuple[float, float]
) -> Tensor:
    """Draws crops as torchvision's `RandomResizedCrop` does: ten attempts, then the centre.

    Args:
        sizes: height and width, `(B, 2)`.
        keys: `(V, B)`.
        scale: smallest and largest fraction of the area.
        ratio: smallest and largest width / height.

    Returns:
        Top, left, height and width, `(V, B, 4)` int64.
    """
    flat = keys.flatten()
    hw = sizes.to(torch.int64).expand(*keys.shape, 2).reshape(-1, 2)
    box, fits = _try_box(hw, flat, 0, scale, ratio)
    for attempt in range(1, _TRIES):
        left = (~fits).nonzero()[:, 0]
        if not len(left):
            break
        box[left], fits[left] = _try_box(hw[left], flat[left], attempt, scale, ratio)
    left = (~fits).nonzero()[:, 0]
    if len(left):
        box[left] = _central_box(hw[left], ratio)
    return box.view(*keys.shape, 4)


def _try_box(
    hw: Tensor, keys: Tensor, attempt: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    stream = _BOX + 4 * attempt
    height, width = hw.unbind(1)
    area = (height * width) * random.uniform(keys, stream, *scale)
    aspect = random.uniform(keys, stream + 1, math.log(ratio[0]), math.log(ratio[1])).exp_()
    w = (area * aspect).sqrt_().round_().to(torch.int64)
    h = (area / aspect).sqrt_().round_().to(torch.int64)
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    top = (random.uniform(keys, stream + 2) * (height - h + 1)).to(torch.int64)
    left = (random.uniform(keys, stream + 3) * (width - w + 1)).to(torch.int64)
    return torch.stack([top, left, h, w], 1), fits


def _central_box(hw: Tensor, ratio: tuple[float, float]) -> Tensor:
    """Returns the largest centred box with an allowed ratio."""
    height, width = hw.unbind(1)
    real = width / height
    w = torch.where(real > ratio[1], (height * ratio[1]).round().to(torch.int64), width)
    h = torch.where(real < ratio[0], (width / ratio[0]).round().to(torch.int64), height)
    return torch.stack([(height - h) // 2, (width - w) // 2, h, w], 1)


def draw_coin(keys: Tensor, stream: int, probability: float) -> Tensor:
    """Returns True with the given probability, for each key."""
    return random.uniform(keys, stream) < probability


def draw_flip(keys: Tensor, probability: float) -> Tensor:
    """Draws which views are mirrored."""
    return draw_coin(keys, _FLIP, probability)


def draw_grayscale(keys: Tensor, probability: float) -> Tensor:
    """Draws which views are converted to grey."""
    return draw_coin(keys, _GRAYSCALE, probability)


def draw_solarize(keys: Tensor, probability: float) -> Tensor:
    """Draws which views are solarised."""
    return draw_coin(keys, _SOLARIZE, probability)


def draw_drop(keys: Tensor, probability: float) -> Tensor:
    """Draws which views lose a channel, and which channel; -1 for none."""
    places = random.uniform(keys, _DROPPED)
    return torch.where(draw_coin(keys, _DROP, probability), places, -1.0).float()


def draw_sigma(keys: Tensor, probability: float, sigma: tuple[float, float]) -> Tensor:
    """Draws the standard deviation of the blur; 0 for no blur."""
    values = random.uniform(keys, _SIGMA, *sigma)
    return torch.where(draw_coin(keys, _BLUR, probability), values, 0.0).float()


def draw_jitter(
    keys: Tensor, probability: float, strengths: tuple[float, float, float, float]
) -> tuple[Tensor, Tensor]:
    """Draws order and factors of the four colour operations as torchvision's `ColorJitter` does.

    Args:
        keys: `(V, B)`.
        probability: that a view is jittered.
        strengths: of brightness, contrast, saturation and hue; 0 disables an operation.

    Returns:
        Order `(V, B, 4)` int64 and factors `(V, B, 4)` float32.
    """
    factors = []
    for stream, strength in enumerate(strengths):
        middle, lowest = (0.0, -0.5) if stream == HUE else (1.0, 0.0)
        low, high = max(lowest, middle - strength), middle + strength
        factors.append(random.uniform(keys, _FACTORS + stream, low, high))
    places = torch.stack([random.uniform(keys, _ORDER + place) for place in range(4)], -1)
    order = places.argsort(dim=-1)
    active = torch.tensor([strength > 0 for strength in strengths])
    jittered = draw_coin(keys, _JITTER, probability)[..., None]
    order = torch.where(active[order] & jittered, order, NOTHING)
    return order, torch.stack(factors, -1).float()
