"""The contract of backbones for masked image modelling, and position embeddings of patches.

A plain vision transformer (Dosovitskiy et al., 2021, arXiv:2010.11929) works on any set of tokens, so a
method may drop some of them (He et al., 2022, arXiv:2111.06377) or replace them (Xie et al., 2022,
arXiv:2111.09886).
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from ssl_zoo.backbones.base import Backbone
from ssl_zoo.config import RunSettings
from ssl_zoo.errors import UserError

Resampling = Literal["antialiased", "plain", "sized"]
"""Interpolation of position embeddings; see `resample_positions`."""
NEEDS_TOKENS = (
    "masks patches and needs a plain vision transformer; set backbone=vit, or a timm model "
    "such as backbone=timm:vit_base_patch16_224"
)


class PatchSettings(Backbone.Config):
    """Settings of a backbone with a patch size."""

    patch_size: int = Field(default=16, ge=1, le=64)
    """Height and width of a patch, in pixels."""

    def check(self, run: RunSettings) -> None:
        """Raises `ValueError` if a view size is not a multiple of the patch size."""
        for size in run.view_counts:
            if size % self.patch_size:
                raise ValueError(
                    f"augmentation.crops of size {size} cannot be split into patches of "
                    f"backbone.patch_size={self.patch_size}; use sizes that are multiples of it"
                )


class TokenBackbone(Backbone):
    """A vision transformer in parts, so that tokens can be dropped or replaced in between.

    `forward(images)` is `pool(encode(embed(images) + positions(images)))`.

    Attributes:
        patch_size: height and width of a patch, in pixels.
        width: length of a token.
        n_prefix: tokens, such as a class token, that `encode` prepends to those of patches.
        has_tokens: False if the network is of another kind, for which only `forward` works.
        drops_tokens: False if `encode` needs the tokens of all patches, of which some may be replaced.
    """

    patch_size: int
    width: int
    n_prefix: int
    has_tokens: bool = True
    drops_tokens: bool = True

    def embed(self, images: Tensor) -> Tensor:
        """Returns one token per patch in reading order, without positions, `(N, L, width)`."""
        raise NotImplementedError

    def positions(self, images: Tensor) -> Tensor:
        """Returns the position embeddings of these images' patches, `(1, L, width)`."""
        raise NotImplementedError

    def encode(self, tokens: Tensor) -> Tensor:
        """Maps any M tokens with positions added to `(N, n_prefix + M, width)`."""
        raise NotImplementedError

    def pool(self, encoded: Tensor) -> Tensor:
        """Maps what `encode` returns to features `(N, feature_dim)`."""
        raise NotImplementedError

    @property
    def has_patches(self) -> bool:
        """Whether `tokens` works; also in networks from which no token can be dropped."""
        return self.has_tokens

    def tokens(self, images: Tensor) -> Tensor:
        """Returns all tokens of whole images, `(N, n_prefix + L, width)`."""
        return self.encode(self.embed(images) + self.positions(images))

    def forward(self, images: Tensor) -> Tensor:
        """Returns features `(N, feature_dim)`."""
        return self.pool(self.tokens(images))

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Returns the rows and columns of patches.

        Raises:
            UserError: the image size is not a multiple of the patch size.
        """
        return patch_grid(images, self.patch_size)


def patch_grid(images: Tensor, patch_size: int) -> tuple[int, int]:
    """Returns the rows and columns of patches of images `(N, C, H, W)`.

    Raises:
        UserError: the image size is not a multiple of the patch size.
    """
    height, width = images.shape[-2:]
    if height % patch_size or width % patch_size:
        raise UserError(
            f"images of {height}x{width} pixels cannot be split into patches of {patch_size}; "
            f"use sizes that are multiples of {patch_size}"
        )
    return height // patch_size, width // patch_size


def with_tokens(backbone: Backbone, *, method: str, drops: bool = False) -> TokenBackbone:
    """Returns the backbone if it supports replacing tokens.

    Args:
        method: the name of the method that needs it, for the message.
        drops: whether the method leaves tokens out.

    Raises:
        UserError: it is not a plain vision transformer, or needs all tokens.
    """
    if not (isinstance(backbone, TokenBackbone) and backbone.has_tokens):
        raise UserError(f"method '{method}' {NEEDS_TOKENS}")
    if drops and not backbone.drops_tokens:
        raise UserError(
            f"method '{method}' leaves patches out, but relative positions need all; set "
            "backbone.relative_positions=false"
        )
    return backbone


def resample_positions(
    positions: Tensor,
    old: tuple[int, int],
    new: tuple[int, int],
    *,
    how: Resampling = "antialiased",
) -> Tensor:
    """Interpolates the position embeddings of one grid of patches for another grid.

    Bicubic: `antialiased`, as in timm (layers/pos_embed.py), or `plain`, as in DINO's code, with a
    scale for a tenth of a patch more (facebookresearch/dino, vision_transformer.py, lines 174-194,
    `interpolate_pos_encoding`), or `sized`, to the size without antialiasing as in transformers.

    Args:
        positions: `(1, L, D)`, in reading order.
        old: rows and columns of the given positions.
        new: rows and columns of the result.
        how: one of the three.
    """
    if old == new:
        return positions
    grid = positions.view(1, *old, -1).permute(0, 3, 1, 2)
    if how == "plain":
        scale = tuple((wanted + 0.1) / given for wanted, given in zip(new, old, strict=True))
        grid = functional.interpolate(grid, scale_factor=scale, mode="bicubic")
    else:
        antialias = how == "antialiased"
        grid = functional.interpolate(grid, size=new, mode="bicubic", antialias=antialias)
    return grid.flatten(2).transpose(1, 2)


def sincos_positions(width: int, rows: int, columns: int) -> Tensor:
    """Returns sine-cosine position embeddings of the patches, `(rows * columns, width)`.

    The first half encodes the column and the second the row, each with wavelengths from 2 pi to 20000 pi
    patches, as in MAE (He et al., 2022, arXiv:2111.06377; facebookresearch/mae, util/pos_embed.py).

    Raises:
        ValueError: the width is not a multiple of 4.
    """
    if width % 4:
        raise ValueError(
            f"width of {width} is not a multiple of 4, which sine-cosine positions need"
        )
    frequencies = 10000 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))

    def line(length: int) -> Tensor:
        angles = torch.arange(length, dtype=torch.float64)[:, None] * frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=1)  # (length, width / 2)

    column = line(columns)[None].expand(rows, -1, -1)
    row = line(rows)[:, None].expand(-1, columns, -1)
    return torch.cat([column, row], dim=2).flatten(0, 1).to(torch.get_default_dtype())
