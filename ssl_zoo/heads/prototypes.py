"""Prototypes: vectors of length one that embeddings are compared with."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ssl_zoo.config import NamedConfig
from ssl_zoo.registries import HEADS


@HEADS.register
class Prototypes(nn.Module):
    """One or more sets of trainable prototypes, each a linear layer without bias.

    Args:
        config: the number of prototypes in each set.
        input_dim: length of an embedding.
    """

    class Config(NamedConfig):
        """Settings of prototypes."""

        name: Literal["prototypes"] = "prototypes"
        n_prototypes: list[int] = Field(default=[3000], min_length=1)
        """Number of prototypes in each set."""

    def __init__(self, config: Config, *, input_dim: int) -> None:
        super().__init__()
        self.sets = nn.ModuleList(nn.Linear(input_dim, k, bias=False) for k in config.n_prototypes)
        self.normalize()

    @torch.no_grad()
    def normalize(self) -> None:
        """Puts every prototype back to length one."""
        for layer in self.sets:
            weight = layer.get_parameter("weight")
            weight.copy_(nn.functional.normalize(weight, dim=1))

    def forward(self, embeddings: Tensor) -> list[Tensor]:
        """Maps embeddings `(N, D)` to scores `(N, K)` for each set, in the prototypes' precision.

        Autocast is off: codes are exponentials of scores divided by a small number, so rounding
        scores to 16 bits would change them visibly.
        """
        with torch.autocast(embeddings.device.type, enabled=False):
            return [
                layer(embeddings.to(layer.get_parameter("weight").dtype)) for layer in self.sets
            ]
