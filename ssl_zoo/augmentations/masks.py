"""Masks: which patches of an image are hidden, as a pure function of the image's key."""

import math
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from ssl_zoo.augmentations import random
from ssl_zoo.augmentations.base import AUGMENTATIONS
from ssl_zoo.backbones.base import BACKBONES
from ssl_zoo.backbones.tokens import NEEDS_TOKENS, PatchSettings, TokenBackbone
from ssl_zoo.config import Config, RunSettings

_STREAM = 30  # not a stream of ssl_zoo/augmentations/params.py
_WHETHER, _RATIO, _BLOCKS = 31, 32, 1000  # blocks use four streams from there for each attempt
_ATTEMPTS = 10
_WIDE, _TALL = math.log(0.3), math.log(1 / 0.3)  # of a block's height / width

Fraction = Annotated[float, Field(gt=0, lt=1)]


class Mask(Config):
    """Masks patches of the first view, or of each global crop on its own."""

    LATER: ClassVar[frozenset[str]] = frozenset(
        {"shape", "views", "probability", "smallest_block"}
    )

    patch_size: int = Field(ge=1, le=64)
    """Height and width of a patch, in pixels; must equal the backbone's."""
    ratio: Fraction | tuple[Fraction, Fraction]
    """Fraction of the image that is masked; the number of masked squares is rounded to nearest. With
    blocks also a range, from which each view draws its own, rounded down, as in iBOT (Zhou et al., 2022,
    arXiv:2111.07832, section 3.2)."""
    unit: int | None = Field(default=None, ge=1, le=512)
    """Height and width of the squares that are masked as a whole, in pixels; by default one patch.
    32 over patches of 4 to 16 in SimMIM (Xie et al., 2022, arXiv:2111.09886, section 3.2)."""
    shape: Literal["squares", "blocks"] = "squares"
    """Whether to mask single squares, the same number in each view, or rectangles of many patches until
    their number is reached or no further one fits (BEiT; Bao et al., 2022, arXiv:2106.08254)."""
    views: Literal["first", "global"] = "first"
    """Which views are masked."""
    probability: float = Field(default=1.0, gt=0, le=1)
    """Probability that a view is masked at all; less than 1 needs blocks."""
    smallest_block: int | None = Field(default=None, ge=1)
    """Smallest area of a block, in patches; by default the square of a third of the image's side, which
    is 16 of 14x14 patches as in BEiT."""

    @field_validator("ratio", mode="before")
    @classmethod
    def _check_ratio(cls, ratio: Any) -> Any:
        numbers = ratio if isinstance(ratio, list | tuple) else [ratio]
        if len(numbers) != (2 if isinstance(ratio, list | tuple) else 1):
            raise ValueError(f"{list(numbers)} is not a range; write [low, high]")
        for number in numbers:
            try:
                inside = 0 < float(number) < 1
            except (TypeError, ValueError):
                inside = False
            if not inside:
                raise ValueError(f"{number} is not a fraction; write a number between 0 and 1")
        return tuple(numbers) if isinstance(ratio, list | tuple) else ratio

    @model_validator(mode="after")
    def _check(self) -> "Mask":
        if self.unit is not None and self.unit % self.patch_size:
            raise ValueError(
                f"unit of {self.unit} is not a multiple of patch_size={self.patch_size}; "
                f"use a multiple of {self.patch_size}"
            )
        low, high = self.range
        if low > high:
            raise ValueError(f"ratio of {low} to {high} is not a range; write the lower one first")
        if self.shape == "blocks" and self.unit is not None:
            raise ValueError("unit is for shape=squares; leave it out, or set smallest_block")
        if self.shape == "squares":
            self._check_squares()
        return self

    def _check_squares(self) -> None:
        wrong = {
            "probability": self.probability < 1,
            "smallest_block": self.smallest_block is not None,
            "a range of ratio": isinstance(self.ratio, tuple),
        }
        for what in (name for name, is_wrong in wrong.items() if is_wrong):
            raise ValueError(
                f"{what} needs shape=blocks: squares mask the same number of patches in each view"
            )

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest fraction of a masked view that is masked."""
        return self.ratio if isinstance(self.ratio, tuple) else (self.ratio, self.ratio)

    @property
    def square(self) -> int:
        """Height and width of the squares that are masked as a whole, in pixels."""
        return self.patch_size if self.unit is None else self.unit

    def n_hidden(self, size: int) -> tuple[int, int]:
        """Returns the smallest and largest number of masked squares in a view of `size` pixels that is
        masked; blocks can stay below."""
        low, high = self.range
        squares = (size // self.square) ** 2
        if isinstance(self.ratio, tuple):
            return int(low * squares), int(high * squares)
        return round(low * squares), round(high * squares)

    def check_size(self, size: int) -> None:
        """Raises `ValueError` if a view of `size` pixels cannot be partly masked."""
        if size % self.square:
            raise ValueError(
                f"mask: views of {size} pixels cannot be split into squares of {self.square}; "
                f"use a size of the first crop that is a multiple of {self.square}"
            )
        n_squares = (size // self.square) ** 2
        fewest, most = self.n_hidden(size)
        if not 0 < fewest <= most < n_squares:
            hides = fewest if fewest < 1 else most
            raise ValueError(
                f"mask: a ratio of {self.range[0 if fewest < 1 else 1]} hides {hides} of {n_squares} "
                "squares; hide at least one, but not all"
            )
        if self.smallest_block is not None and self.smallest_block > fewest:
            raise ValueError(
                f"mask.smallest_block={self.smallest_block} is more than the {fewest} of {n_squares} "
                "patches that a view may hide; lower it, or raise mask.ratio"
            )

    def check_backbone(self, backbone: object) -> None:
        """Raises `ValueError` if the backbone has another patch size."""
        if isinstance(backbone, PatchSettings) and backbone.patch_size != self.patch_size:
            raise ValueError(
                f"augmentation.mask.patch_size of {self.patch_size} differs from backbone.patch_size="
                f"{backbone.patch_size}; make them equal, and use mask.unit to mask larger squares"
            )


def draw_masks(mask: Mask, size: int, keys: Tensor, *, n_global: int) -> Tensor:
    """Draws the masked patches of the first view, or of all global crops.

    Args:
        mask: settings of the mask.
        size: height and width of the views, in pixels.
        keys: one int64 per image, `(B,)`.
        n_global: number of global crops.

    Returns:
        True for masked patches, in reading order, `(B, M, L)` bool with M = 1 or `n_global`.
    """
    one_each = keys[None] if mask.views == "first" else random.split_keys(keys, n_global)
    draw = _draw_squares if mask.shape == "squares" else _draw_blocks
    hidden = draw(mask, size, one_each.flatten())
    return hidden.view(*one_each.shape, -1).transpose(0, 1).contiguous()


def _draw_squares(mask: Mask, size: int, keys: Tensor) -> Tensor:
    """Draws the squares with the smallest random numbers, one per square, `(N, L)`."""
    side, patches = size // mask.square, mask.square // mask.patch_size
    numbers = random.uniform(random.split_keys(keys, side**2), _STREAM).t()  # (N, squares)
    chosen = numbers.argsort(dim=1)[:, : mask.n_hidden(size)[0]]
    hidden = torch.zeros(numbers.shape, dtype=torch.bool).scatter(1, chosen, True)
    fine = hidden.view(-1, side, side).repeat_interleave(patches, 1).repeat_interleave(patches, 2)
    return fine.flatten(1)


def _draw_blocks(mask: Mask, size: int, keys: Tensor) -> Tensor:
    """Draws blocks for all views at once until each has its number of patches, `(N, L)`.

    A block has an area from the smallest to what is left, a height / width from .3 to 1 / .3 and a place
    within the image. It is taken if it masks at least one more patch and not more than are left; after
    ten attempts in a row without one, a view has what it has (microsoft/unilm,
    beit/masking_generator.py; iBOT draws the ratio of each view, bytedance/ibot, loader.py).
    """
    side = size // mask.patch_size
    smallest = mask.smallest_block or max(1, (side // 3) ** 2)
    wanted = random.uniform(keys, _RATIO, *mask.range).mul_(side**2)
    wanted = wanted.floor_() if isinstance(mask.ratio, tuple) else wanted.round_()
    wanted *= random.uniform(keys, _WHETHER) < mask.probability
    hidden = torch.zeros(len(keys), side, side, dtype=torch.bool)
    failed = torch.zeros(len(keys), dtype=torch.int64)
    attempt = 0
    while True:
        left = wanted - hidden.sum(dim=(1, 2))
        active = (left > 0) & (failed < _ATTEMPTS)
        if not active.any():
            return hidden.flatten(1)
        u = [random.uniform(keys, _BLOCKS + 4 * attempt + number) for number in range(4)]
        area, shape = (
            smallest + (left - smallest) * u[0],
            torch.exp(_WIDE + (_TALL - _WIDE) * u[1]),
        )
        height, width = (area * shape).sqrt().round(), (area / shape).sqrt().round()
        block = _within(height, side, u[2])[:, :, None] & _within(width, side, u[3])[:, None]
        added = (block & ~hidden).sum(dim=(1, 2))
        fits = active & (height < side) & (width < side) & (added > 0) & (added <= left)
        hidden |= block & fits[:, None, None]
        failed = torch.where(fits, 0, failed + 1)
        attempt += 1


def _within(length: Tensor, side: int, where: Tensor) -> Tensor:
    """Returns which of `side` places a stretch covers that starts at a random one, `(N, side)`."""
    start = (where * (side - length + 1)).floor()[:, None]
    places = torch.arange(side)
    return (places >= start) & (places < start + length[:, None])


def check_equal_counts(run: RunSettings) -> None:
    """Raises `ValueError` if images may hide different numbers of patches."""
    masks = AUGMENTATIONS.build(run.augmentation).draw_masks(torch.arange(64))
    if masks is not None and len({*masks[:, 0].sum(dim=1).tolist()}) > 1:
        raise ValueError(
            f"method '{run.method.name}' drops the same number of patches from each image, but the "
            "augmentation's masks differ in number; set augmentation.mask.shape=squares"
        )


def check_masked_run(run: RunSettings, *, views: Literal["first", "global"] = "first") -> None:
    """Raises `ValueError` if a method that masks patches gets no masks or cannot use them.

    Args:
        run: settings of the run.
        views: which views the method needs masks of.
    """
    method = f"method '{run.method.name}'"
    if not issubclass(BACKBONES[run.backbone.name], TokenBackbone):
        raise ValueError(f"{method} {NEEDS_TOKENS}")
    masks = AUGMENTATIONS.build(run.augmentation).draw_masks(torch.zeros(1, dtype=torch.int64))
    if masks is None:
        backbone = run.backbone
        patch_size = backbone.patch_size if isinstance(backbone, PatchSettings) else "PIXELS"
        usual = "0.75" if views == "first" else "0.3, views: global"
        raise ValueError(
            f"{method} predicts masked patches, but the augmentation masks none; set "
            f"'augmentation.mask={{patch_size: {patch_size}, ratio: {usual}}}'"
        )
    if masks.ndim != 3:
        raise ValueError(
            f"augmentation '{run.augmentation.name}' draws masks of shape {tuple(masks.shape)}; "
            "draw_masks must return (B, M, L), the masks of M global crops"
        )
    n_global = next(iter(run.view_counts.values()))
    if views == "global" and masks.shape[1] < n_global:
        raise ValueError(
            f"{method} masks all {n_global} global crops, but the augmentation masks {masks.shape[1]}; "
            "set augmentation.mask.views=global"
        )
