"""Blocks of vision transformers that DINOv2, DINOv3, BEiT and CLIP released, under DINOv2's names."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Activation = Literal["gelu", "quick_gelu", "swiglu"]
"""Hidden layer of an MLP: GELU; its sigmoid approximation as in CLIP; or SwiGLU (arXiv:2002.05202)."""


class Attention(nn.Module):
    """Self-attention over tokens `(N, L, D)`, whose patches may be rotated or biased by their position.

    Args:
        width: length of a token.
        heads: number of attention heads.
        window: rows and columns of patches that have a bias per head; None without.
    """

    def __init__(self, width: int, heads: int, *, window: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.relative = RelativeBias(window, heads) if window else None

    def forward(
        self, tokens: Tensor, *, angles: Tensor | None = None, bias: Tensor | None = None
    ) -> Tensor:
        """Returns the attention output `(N, L, D)`.

        Args:
            tokens: `(N, L, D)`.
            angles: `(P, D / heads)`, by which the last P queries and keys are rotated.
            bias: `(heads, L, L)`, added to the scaled logits.
        """
        n, length, width = tokens.shape
        made = self.qkv(tokens).view(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        queries, keys, values = made.unbind(0)  # (N, H, L, D / H)
        if angles is not None:
            queries, keys = rotated(queries, angles), rotated(keys, angles)
        if self.relative is not None:
            bias = self.relative()
        mask = None if bias is None else bias.to(queries.dtype)
        found = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        mixed: Tensor = self.proj(found.transpose(1, 2).reshape(n, length, width))
        return mixed


class RelativeBias(nn.Module):
    """Bias of attention for each offset between two patches (Bao et al., 2022, arXiv:2106.08254).

    Row `(dy + H - 1) (2 W - 1) + dx + W - 1` of the table is for a query `dy` rows below and `dx` columns
    right of its key. The last three rows are for the class token as query, as key, and as both
    (microsoft/unilm, beit/modeling_finetune.py).
    """

    relative_position_index: Tensor

    def __init__(self, window: tuple[int, int], heads: int) -> None:
        super().__init__()
        rows, columns = window
        n_offsets = (2 * rows - 1) * (2 * columns - 1)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(n_offsets + 3, heads))
        place = torch.arange(rows * columns)
        y, x = place // columns, place % columns
        down, right = y[:, None] - y[None], x[:, None] - x[None]
        index = torch.full((len(place) + 1,) * 2, n_offsets)
        index[1:, 1:] = (down + rows - 1) * (2 * columns - 1) + right + columns - 1
        index[1:, 0] = n_offsets + 1
        index[0, 0] = n_offsets + 2
        self.register_buffer("relative_position_index", index, persistent=False)

    def forward(self) -> Tensor:
        """Returns the bias `(heads, 1 + P, 1 + P)`."""
        return self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)


class FeedForward(nn.Module):
    """Two linear layers around GELU, under the names `fc1` and `fc2`."""

    def __init__(self, width: int, hidden: int, *, quick: bool) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self._quick = quick

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps `(N, L, D)` to `(N, L, D)`."""
        hidden = self.fc1(tokens)
        active = hidden * torch.sigmoid(1.702 * hidden) if self._quick else functional.gelu(hidden)
        found: Tensor = self.fc2(active)
        return found


class SwiGLU(nn.Module):
    """SwiGLU (Shazeer, 2020, arXiv:2002.05202): gate and value in `w12`, and `w3` after them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w12, self.w3 = nn.Linear(width, 2 * hidden), nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps `(N, L, D)` to `(N, L, D)`."""
        gate, value = self.w12(tokens).chunk(2, dim=-1)
        found: Tensor = self.w3(functional.silu(gate) * value)
        return found


class LayerScale(nn.Module):
    """Scales each coordinate (Touvron et al., 2021, arXiv:2103.17239)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), 1e-5))  # DINOv2's default configuration

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns scaled tokens `(N, L, D)`."""
        return tokens * self.gamma


class ReleasedBlock(nn.Module):
    """A transformer block with normalisation first, under DINOv2's names."""

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        *,
        activation: Activation,
        eps: float,
        scaled: bool,
        window: tuple[int, int] | None,
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=eps), nn.LayerNorm(width, eps=eps)
        self.attn = Attention(width, heads, window=window)
        self.mlp: nn.Module = (
            SwiGLU(width, hidden)
            if activation == "swiglu"
            else FeedForward(width, hidden, quick=activation == "quick_gelu")
        )
        self.ls1, self.ls2 = (LayerScale(width) if scaled else nn.Identity() for _ in range(2))

    def forward(
        self, tokens: Tensor, *, angles: Tensor | None = None, bias: Tensor | None = None
    ) -> Tensor:
        """Maps `(N, L, D)` to `(N, L, D)`; for `angles` and `bias` see `Attention`."""
        tokens = tokens + self.ls1(self.attn(self.norm1(tokens), angles=angles, bias=bias))
        found: Tensor = tokens + self.ls2(self.mlp(self.norm2(tokens)))
        return found


def rotated(tokens: Tensor, angles: Tensor) -> Tensor:
    """Rotates the last tokens, coordinate i of d together with i + d / 2 (Su et al., arXiv:2104.09864).

    Args:
        tokens: queries or keys, `(N, H, L, d)`.
        angles: `(P, d)`, in radians; the first L - P tokens stay as they are.
    """
    n_first = tokens.shape[-2] - len(angles)
    first, last = tokens[..., :n_first, :], tokens[..., n_first:, :]
    low, high = last.chunk(2, dim=-1)
    cos, sin = angles.cos().to(last.dtype), angles.sin().to(last.dtype)
    turned = last * cos + torch.cat([-high, low], dim=-1) * sin
    return torch.cat([first, turned], dim=-2)


def rotary_periods(head_dim: int, base: float = 100.0) -> Tensor:
    """Returns the periods of rotary positions, `(head_dim / 4,)`: base^(4 i / head_dim).

    Siméoni et al., 2025, "DINOv3", arXiv:2508.10104, whose base is 100.
    """
    return base ** (torch.arange(head_dim // 4) * 4 / head_dim)


def rotary_angles(periods: Tensor, rows: int, columns: int) -> Tensor:
    """Returns the angles of patches in reading order, `(rows * columns, 4 * len(periods))`, in radians.

    Rows and columns have coordinates in [-1, 1], at the centres of the patches; an angle is 2 pi times
    coordinate by period, first of the row and then of the column, both twice (arXiv:2508.10104).
    """
    lines = [
        (torch.arange(n, device=periods.device, dtype=periods.dtype) + 0.5) / n * 2 - 1
        for n in (rows, columns)
    ]
    grid = torch.stack(torch.meshgrid(*lines, indexing="ij"), dim=-1).flatten(0, 1)  # (P, 2)
    angles = (2 * torch.pi * grid[:, :, None] / periods).flatten(1)
    return angles.tile(2)
