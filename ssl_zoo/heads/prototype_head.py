"""A projection head that ends in normalised prototypes, for self-distillation (DINO, iBOT, DINOv2)."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ssl_zoo.config import Config
from ssl_zoo.heads.mlp import l2_normalize


class PrototypeHeadConfig(Config):
    """Settings of the head; defaults from facebookresearch/dino (vision_transformer.py)."""

    hidden_dims: list[Annotated[int, Field(ge=1)]] = Field(default=[2048, 2048])
    """Width of each hidden layer."""
    bottleneck_dim: int = Field(default=256, ge=1)
    """Dimension of an embedding."""
    n_prototypes: int = Field(default=65536, ge=2)
    """Number of prototypes, the dimension of the output."""
    batch_norm: bool = False
    """Whether hidden layers use batch normalisation."""


class PrototypeHead(nn.Module):
    """An MLP with GELU, followed by cosine similarities of its output and prototypes.

    DINO (Caron et al., 2021, arXiv:2104.14294), appendix C, with the initialisation of its code. That
    code implements the last layer as a weight normalisation with fixed norms of one, which is equivalent
    to normalising each prototype.

    Args:
        config: widths and the number of prototypes.
        input_dim: dimension of the features.
    """

    def __init__(self, config: PrototypeHeadConfig, *, input_dim: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = input_dim
        for hidden in config.hidden_dims:
            layers.append(nn.Linear(width, hidden))
            if config.batch_norm:
                layers.append(nn.BatchNorm1d(hidden))
            layers.append(nn.GELU())
            width = hidden
        layers.append(nn.Linear(width, config.bottleneck_dim))
        self.layers = nn.Sequential(*layers)
        for layer in layers:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.prototypes = nn.Parameter(
            nn.Linear(config.bottleneck_dim, config.n_prototypes, bias=False).weight.detach()
        )

    def forward(self, features: Tensor) -> Tensor:
        """Maps features `(N, D)` to scores `(N, K)` in [-1, 1], in float32 or float64."""
        embeddings = l2_normalize(self.layers(features))
        with torch.autocast(features.device.type, enabled=False):
            return functional.linear(embeddings, functional.normalize(self.prototypes, dim=1))
