"""The projection head: a small MLP with batch normalisation."""

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ssl_zoo.config import NamedConfig
from ssl_zoo.heads.base import HEADS


@HEADS.register
class MLP(nn.Module):
    """Linear layers with batch normalisation and an activation between them; the last is only linear.

    The defaults give SwAV's projection head (Caron et al., 2020, arXiv:2006.09882;
    facebookresearch/swav, src/resnet50.py): all layers have biases, the output is not normalised.

    Args:
        config: widths and options.
        input_dim: length of the input features.
    """

    class Config(NamedConfig):
        """Settings of a projection head."""

        LATER: ClassVar[frozenset[str]] = frozenset({"activation"})

        name: Literal["mlp"] = "mlp"
        hidden_dims: list[Annotated[int, Field(ge=1)]] = Field(default=[2048])
        """Width of each hidden layer; an empty list makes the head a single linear layer."""
        output_dim: int = Field(default=128, ge=1)
        """Length of an embedding."""
        batch_norm: bool = True
        """Whether hidden layers are batch-normalised."""
        activation: Literal["relu", "leaky_relu", "gelu"] = "relu"
        """Nonlinearity of hidden layers; the leaky one has a slope of .01 below zero."""
        hidden_bias: bool = True
        """Whether hidden linear layers have a bias, which batch normalisation makes redundant."""
        output_bias: bool = True
        """Whether the last linear layer has a bias."""
        output_batch_norm: bool = False
        """Whether the embedding is batch-normalised, as SimCLR's is."""
        output_affine: bool = True
        """Whether the normalisation of the output has a scale and a shift; SimSiam's does not."""

    def __init__(self, config: Config, *, input_dim: int) -> None:
        super().__init__()
        self.output_dim = config.output_dim
        layers: list[nn.Module] = []
        width = input_dim
        for hidden in config.hidden_dims:
            layers.append(nn.Linear(width, hidden, bias=config.hidden_bias))
            if config.batch_norm:
                layers.append(nn.BatchNorm1d(hidden))
            layers.append(_activation(config.activation))
            width = hidden
        layers.append(nn.Linear(width, config.output_dim, bias=config.output_bias))
        if config.output_batch_norm:
            layers.append(nn.BatchNorm1d(config.output_dim, affine=config.output_affine))
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """Maps features `(N, D)` to embeddings `(N, output_dim)`, not normalised."""
        embeddings: Tensor = self.layers(features)
        return embeddings


def _activation(name: str) -> nn.Module:
    if name == "gelu":
        return nn.GELU()
    return nn.LeakyReLU(inplace=True) if name == "leaky_relu" else nn.ReLU(inplace=True)


def l2_normalize(embeddings: Tensor) -> Tensor:
    """Returns L2-normalised rows, in float32 or higher precision, regardless of autocast."""
    dtype = torch.promote_types(embeddings.dtype, torch.float32)
    with torch.autocast(embeddings.device.type, enabled=False):
        return nn.functional.normalize(embeddings.to(dtype), dim=1)
