"""An augmentation that only moves the image."""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from ssl_zoo.augmentations import random
from ssl_zoo.augmentations.base import AUGMENTATIONS, Augmentation
from ssl_zoo.config import NamedConfig


@AUGMENTATIONS.register
class Shifts(Augmentation[Tensor]):
    """Two views of one size, each rolled along both axes."""

    class Config(NamedConfig):
        """Settings of the shifts."""

        name: Literal["shifts"] = "shifts"
        size: int = Field(default=32, ge=4, le=1024)
        """Height and width of the images, which must all have this size."""
        largest: int = Field(default=4, ge=0)
        """Largest shift in pixels."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.view_counts = {config.size: 2}

    def draw(self, sizes: Tensor, keys: Tensor) -> Tensor:
        """Draws shifts along both axes, `(V, B, 2)`."""
        keys = random.split_keys(keys, 2)
        span = 2 * self.config.largest + 1
        drawn = [random.uniform(keys, stream, 0, span) for stream in range(2)]
        return torch.stack(drawn, dim=-1).long() - self.config.largest

    def apply(self, images: Tensor | Sequence[Tensor], params: Tensor) -> list[Tensor]:
        """Rolls the images; returns one tensor `(V, B, 3, size, size)`."""
        views = [
            torch.stack(
                [
                    image.roll(shift.tolist(), dims=(1, 2))
                    for image, shift in zip(images, shifts, strict=True)
                ]
            )
            for shifts in params.cpu()
        ]
        return [torch.stack(views)]
