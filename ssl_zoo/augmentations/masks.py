"""Masks: which patches of an image are hidden, as a pure function of the image's key."""

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ssl_zoo.augmentations import random
from ssl_zoo.augmentations.base import AUGMENTATIONS
from ssl_zoo.backbones.base import BACKBONES
from ssl_zoo.backbones.tokens import NEEDS_TOKENS, PatchSettings, TokenBackbone
from ssl_zoo.config import Config, RunSettings

_STREAM = 30  # not a stream of ssl_zoo/augmentations/params.py


class Mask(Config):
    """Masks patches of the first view: the same number in each image, uniformly at random."""

    patch_size: int = Field(ge=1, le=64)
    """Height and width of a patch, in pixels; must equal the backbone's."""
    ratio: float = Field(gt=0, lt=1)
    """Fraction of the image that is masked; the number of masked squares is rounded to nearest."""
    unit: int | None = Field(default=None, ge=1, le=512)
    """Height and width of the squares that are masked as a whole, in pixels; by default one patch.
    32 over patches of 4 to 16 in SimMIM (Xie et al., 2022, arXiv:2111.09886, section 3.2)."""

    @model_validator(mode="after")
    def _check(self) -> "Mask":
        if self.unit is not None and self.unit % self.patch_size:
            raise ValueError(
                f"unit of {self.unit} is not a multiple of patch_size={self.patch_size}; "
                f"use a multiple of {self.patch_size}"
            )
        return self

    @property
    def square(self) -> int:
        """Height and width of the squares that are masked as a whole, in pixels."""
        return self.patch_size if self.unit is None else self.unit

    def n_hidden(self, size: int) -> int:
        """Returns the number of masked squares in an image of `size` pixels."""
        return round(self.ratio * (size // self.square) ** 2)

    def check_size(self, size: int) -> None:
        """Raises `ValueError` if a view of `size` pixels cannot be partly masked."""
        if size % self.square:
            raise ValueError(
                f"mask: views of {size} pixels cannot be split into squares of {self.square}; "
                f"use a size of the first crop that is a multiple of {self.square}"
            )
        n_squares = (size // self.square) ** 2
        if not 0 < self.n_hidden(size) < n_squares:
            raise ValueError(
                f"mask: a ratio of {self.ratio} hides {self.n_hidden(size)} of {n_squares} squares; "
                "hide at least one, but not all"
            )

    def check_backbone(self, backbone: object) -> None:
        """Raises `ValueError` if the backbone has another patch size."""
        if isinstance(backbone, PatchSettings) and backbone.patch_size != self.patch_size:
            raise ValueError(
                f"augmentation.mask.patch_size of {self.patch_size} differs from backbone.patch_size="
                f"{backbone.patch_size}; make them equal, and use mask.unit to mask larger squares"
            )


def draw_mask(mask: Mask, size: int, keys: Tensor) -> Tensor:
    """Draws the masked patches: the squares with the smallest random numbers, one per square.

    Args:
        mask: settings of the mask.
        size: height and width of the view, in pixels.
        keys: one int64 per image, `(B,)`.

    Returns:
        True for masked patches, in reading order, `(B, L)` bool.
    """
    side, patches = size // mask.square, mask.square // mask.patch_size
    numbers = random.uniform(random.split_keys(keys, side**2), _STREAM).t()  # (B, squares)
    chosen = numbers.argsort(dim=1)[:, : mask.n_hidden(size)]
    hidden = torch.zeros(numbers.shape, dtype=torch.bool).scatter(1, chosen, True)
    fine = hidden.view(-1, side, side).repeat_interleave(patches, 1).repeat_interleave(patches, 2)
    return fine.flatten(1)


def check_masked_run(run: RunSettings) -> None:
    """Raises `ValueError` if a method that masks patches gets no masks or cannot use them."""
    method = f"method '{run.method.name}'"
    if not issubclass(BACKBONES[run.backbone.name], TokenBackbone):
        raise ValueError(f"{method} {NEEDS_TOKENS}")
    if AUGMENTATIONS.build(run.augmentation).draw_masks(torch.zeros(1, dtype=torch.int64)) is None:
        patch_size = run.backbone.patch_size if isinstance(run.backbone, PatchSettings) else 16
        raise ValueError(
            f"{method} predicts masked patches, but the augmentation masks none; set "
            f"'augmentation.mask={{patch_size: {patch_size}, ratio: 0.75}}'"
        )
