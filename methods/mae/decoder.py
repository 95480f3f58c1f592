"""The decoder of MAE (He et al., 2022, arXiv:2111.06377), used only in training."""

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ssl_zoo import config
from ssl_zoo.backbones.attention import quicken
from ssl_zoo.backbones.tokens import sincos_positions
from ssl_zoo.losses.masked_pixels import put_back


class Decoder(nn.Module):
    """A light transformer from encoded visible patches to the pixels of all patches.

    Positions are fixed sines and cosines; hidden patches are represented by a learnt mask token.

    Args:
        settings: sizes of the decoder.
        input_dim: dimension of encoded tokens.
        output_dim: number of values per patch.
        grid: rows and columns of patches.
    """

    class Config(config.Config):
        """Settings of the decoder; the defaults are MAE's for both ViT-B and ViT-L."""

        width: int = Field(default=512, ge=4, le=4096)
        """Dimension of tokens."""
        depth: int = Field(default=8, ge=1, le=64)
        """Number of blocks."""
        heads: int = Field(default=16, ge=1, le=64)
        """Number of attention heads."""

        @model_validator(mode="after")
        def _check(self) -> "Decoder.Config":
            if self.width % self.heads or self.width % 4:
                raise ValueError(
                    f"width of {self.width} must be a multiple of 4 and of heads={self.heads}"
                )
            return self

    def __init__(
        self, settings: Config, *, input_dim: int, output_dim: int, grid: tuple[int, int]
    ) -> None:
        super().__init__()
        width = settings.width
        self.embed = nn.Linear(input_dim, width)
        self.mask_token = nn.Parameter(torch.zeros(width))
        self.register_buffer("positions", sincos_positions(width, *grid), persistent=False)
        self.blocks = nn.Sequential(
            *(_block(width, settings.heads) for _ in range(settings.depth))
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.predict = nn.Linear(width, output_dim)
        self.apply(_initialize)
        quicken(self)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, encoded: Tensor, places: Tensor) -> Tensor:
        """Predicts all patches, `(N, L, output_dim)`.

        Args:
            encoded: `(N, P + V, input_dim)`; the first P tokens do not belong to patches.
            places: positions of the other tokens among all patches, `(N, V)`.
        """
        positions: Tensor = self.get_buffer("positions")  # (L, width)
        tokens = self.embed(encoded)
        n_prefix = tokens.shape[1] - places.shape[1]
        patches = put_back(tokens[:, n_prefix:], places, self.mask_token, len(positions))
        tokens = torch.cat([tokens[:, :n_prefix], patches + positions], dim=1)
        predicted: Tensor = self.predict(self.norm(self.blocks(tokens)[:, n_prefix:]))
        return predicted


def _block(width: int, heads: int) -> nn.Module:
    return nn.TransformerEncoderLayer(
        width,
        heads,
        dim_feedforward=4 * width,
        dropout=0.0,
        activation="gelu",
        layer_norm_eps=1e-6,
        batch_first=True,
        norm_first=True,
    )


def _initialize(module: nn.Module) -> None:
    """As the authors' models_mae.py; torch draws the attention's first layer alike."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
