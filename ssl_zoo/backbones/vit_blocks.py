"""Options of vision transformers: relative positions, scaled branches, dropped branches, and other initial
weights.

As in BEiT (Bao et al., 2022, arXiv:2106.08254; facts of microsoft/unilm, beit/modeling_pretrain.py).
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ssl_zoo.errors import UserError

_STD = 0.02
"""Standard deviation of initial weights, which are cut at once this value."""


class TransformerBlock(nn.Module):
    """A transformer block of torchvision with a factor for each channel of both branches.

    Its parameters have the names of torchvision's `EncoderBlock`; the factors, `gamma_1` and `gamma_2`, are
    LayerScale (Touvron et al., 2021, arXiv:2103.17239).

    Args:
        block: the block whose layers it takes.
        layer_scale: initial factors; None for no factors.
        drop_path: probability that a branch is left out for an image, in training (stochastic depth).
    """

    def __init__(self, block: nn.Module, *, layer_scale: float | None, drop_path: float) -> None:
        super().__init__()
        for name in ("ln_1", "self_attention", "ln_2", "mlp"):
            self.add_module(name, block.get_submodule(name))
        self.drop_path = drop_path
        self.gamma_1: nn.Parameter | None = None
        self.gamma_2: nn.Parameter | None = None
        if layer_scale is not None:
            width = self.get_parameter("ln_1.weight").shape[0]
            self.gamma_1 = nn.Parameter(torch.full((width,), layer_scale))
            self.gamma_2 = nn.Parameter(torch.full((width,), layer_scale))

    def forward(self, tokens: Tensor, bias: Tensor | None = None) -> Tensor:
        """Returns tokens `(N, M, width)`.

        Args:
            bias: added to the attention's scaled logits, `(heads, M, M)`.
        """
        parts: Any = self
        mixed, _ = parts.self_attention(parts.ln_1(tokens), bias=bias)
        tokens = tokens + self._branch(mixed, self.gamma_1)
        return tokens + self._branch(parts.mlp(parts.ln_2(tokens)), self.gamma_2)

    def _branch(self, result: Tensor, gamma: Tensor | None) -> Tensor:
        scaled = result if gamma is None else gamma * result
        if not (self.training and self.drop_path):
            return scaled
        kept = torch.rand(len(scaled), 1, 1, device=scaled.device) >= self.drop_path
        return scaled * (kept / (1 - self.drop_path)).to(scaled.dtype)


class RelativePositions(nn.Module):
    """A learnt number for each offset between two patches and for each head, shared by all blocks.

    Three more are for the class token: from it, to it, and with itself.

    Args:
        side: rows and columns of patches that the table is made for.
        heads: number of attention heads.
    """

    def __init__(self, side: int, heads: int) -> None:
        super().__init__()
        self.side = side
        self.table = nn.Parameter(torch.zeros((2 * side - 1) ** 2 + 3, heads))
        self.rows: Tensor
        self.register_buffer("rows", table_rows(side), persistent=False)

    def forward(self, n_patches: int) -> Tensor:
        """Returns what is added to the scaled logits, `(heads, 1 + n_patches, 1 + n_patches)`.

        Tables are interpolated (bicubic, offset 0 stays) for another number of patches.

        Raises:
            UserError: the patches do not form a square, because some are missing.
        """
        side = math.isqrt(n_patches)
        if side**2 != n_patches:
            raise UserError(
                f"relative positions are those of a square of patches, not of {n_patches}; use square "
                "images, or backbone.relative_positions=false"
            )
        if side == self.side:
            return self.table[self.rows].permute(2, 0, 1)
        return self._resized(side)[table_rows(side).to(self.table.device)].permute(2, 0, 1)

    def _resized(self, side: int) -> Tensor:
        old, new = 2 * self.side - 1, 2 * side - 1
        grid = self.table[:-3].t().view(1, -1, old, old)
        resized = functional.interpolate(grid, size=(new, new), mode="bicubic", align_corners=True)
        return torch.cat([resized.flatten(2)[0].t(), self.table[-3:]])


def table_rows(side: int) -> Tensor:
    """Returns the row of the table for each pair of tokens, `(1 + L, 1 + L)` int64 with L = side^2.

    The first token is the class token; offsets are those of the first of a pair from the second.
    """
    at = torch.arange(side)
    offset = at[:, None] - at + side - 1  # (side, side), from 0
    width = 2 * side - 1
    pairs = (
        offset[:, None, :, None] * width + offset[None, :, None, :]
    )  # (row, column, row, column)
    found = functional.pad(pairs.reshape(side**2, side**2), (1, 0, 1, 0))
    found[0], found[:, 0], found[0, 0] = width**2, width**2 + 1, width**2 + 2
    return found


def initialize(trunk: nn.Module) -> None:
    """Draws a transformer's weights as BEiT does.

    A normal distribution of std .02, cut at -.02 and .02, for linear layers, the patch embedding, the class
    token and positions; the last layers of both branches of block l, counted from 1, are divided by
    sqrt(2 l) (`fix_init_weight`).
    """
    for module in trunk.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            _cut_normal(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.MultiheadAttention):
            assert module.in_proj_weight is not None
            _cut_normal(module.in_proj_weight)
            nn.init.zeros_(module.in_proj_bias)
    for name in ("class_token", "encoder.pos_embedding"):
        _cut_normal(trunk.get_parameter(name))
    blocks: Any = trunk.get_submodule("encoder.layers")
    with torch.no_grad():
        for number, block in enumerate(blocks, start=1):
            for layer in (block.self_attention.out_proj, block.mlp[3]):
                layer.weight.div_(math.sqrt(2 * number))


def _cut_normal(weights: Tensor) -> None:
    nn.init.trunc_normal_(weights, std=_STD, a=-_STD, b=_STD)
