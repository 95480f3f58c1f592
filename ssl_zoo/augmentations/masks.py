"""Masks: which patches of an image a method must do without, as a pure function of the image's key."""

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ssl_zoo.augmentations import random
from ssl_zoo.augmentations.base import AUGMENTATIONS
from ssl_zoo.backbones.base import BACKBONES
from ssl_zoo.backbones.tokens import NEEDS_TOKENS, PatchSettings, TokenBackbone
from ssl_zoo.config import Config, RunSettings

_STREAM = 30  # no stream of ssl_zoo/augmentations/params.py


class Mask(Config):
    """Hides patches of the first view, equally many of each image, all sets of them equally likely."""

    patch_size: int = Field(ge=1, le=64)
    """Height and width of a patch, in pixels: that of the backbone."""
    ratio: float = Field(gt=0, lt=1)
    """Part of the image that is hidden; the number of hidden squares is rounded to the nearest."""
    unit: int | None = Field(default=None, ge=1, le=512)
    """Height and width of the squares that are hidden as a whole, in pixels; a patch when not given.
    32 over patches of 4 to 16 in SimMIM (Xie et al., 2022, arXiv:2111.09886, section 3.2)."""

    @model_validator(mode="after")
    def _check(self) -> "Mask":
        if self.unit is not None and self.unit % self.patch_size:
            raise ValueError(
                f"unit of {self.unit} does not consist of patches of {self.patch_size}; "
                f"use a multiple of {self.patch_size}"
            )
        return self

    @property
    def square(self) -> int:
        """Height and width of what is hidden as a whole, in pixels."""
        return self.patch_size if self.unit is None else self.unit

    def n_hidden(self, size: int) -> int:
        """Returns how many squares of an image of `size` pixels are hidden."""
        return round(self.ratio * (size // self.square) ** 2)

    def check_size(self, size: int) -> None:
        """Raises `ValueError` when a view of `size` pixels cannot be hidden in part."""
        if size % self.square:
            raise ValueError(
                f"mask: views of {size} pixels do not consist of squares of {self.square}; "
                f"use a size of the first crop that is a multiple of {self.square}"
            )
        n_squares = (size // self.square) ** 2
        if not 0 < self.n_hidden(size) < n_squares:
            raise ValueError(
                f"mask: a ratio of {self.ratio} hides {self.n_hidden(size)} of {n_squares} squares; "
                "hide one at least and not all"
            )

    def check_backbone(self, backbone: object) -> None:
        """Raises `ValueError` when the backbone says that its patches have another size."""
        if isinstance(backbone, PatchSettings) and backbone.patch_size != self.patch_size:
            raise ValueError(
                f"augmentation.mask.patch_size of {self.patch_size} is not backbone.patch_size="
                f"{backbone.patch_size}; make them equal, and use mask.unit to hide larger squares"
            )


def draw_mask(mask: Mask, size: int, keys: Tensor) -> Tensor:
    """Draws which patches are hidden: the squares with the smallest of one random number each.

    Args:
        mask: what is hidden.
        size: height and width of the view, in pixels.
        keys: one int64 for each image, `(B,)`.

    Returns:
        True for hidden patches, in reading order, `(B, L)` bool.
    """
    side, patches = size // mask.square, mask.square // mask.patch_size
    numbers = random.uniform(random.split_keys(keys, side**2), _STREAM).t()  # (B, squares)
    chosen = numbers.argsort(dim=1)[:, : mask.n_hidden(size)]
    hidden = torch.zeros(numbers.shape, dtype=torch.bool).scatter(1, chosen, True)
    fine = hidden.view(-1, side, side).repeat_interleave(patches, 1).repeat_interleave(patches, 2)
    return fine.flatten(1)


def check_masked_run(run: RunSettings) -> None:
    """Raises `ValueError` when a method that hides patches gets no masks or cannot make use of them."""
    method = f"method '{run.method.name}'"
    if not issubclass(BACKBONES[run.backbone.name], TokenBackbone):
        raise ValueError(f"{method} {NEEDS_TOKENS}")
    if AUGMENTATIONS.build(run.augmentation).draw_masks(torch.zeros(1, dtype=torch.int64)) is None:
        patch_size = run.backbone.patch_size if isinstance(run.backbone, PatchSettings) else 16
        raise ValueError(
            f"{method} predicts hidden patches and the augmentation hides none; set "
            f"'augmentation.mask={{patch_size: {patch_size}, ratio: 0.75}}'"
        )
