"""Prototypes: unit vectors that embeddings are compared with."""

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ssl_zoo.config import NamedConfig
from ssl_zoo.errors import UserError
from ssl_zoo.heads.base import HEADS
from ssl_zoo.heads.mlp import l2_normalize


@HEADS.register
class Prototypes(nn.Module):
    """One or more sets of trainable prototypes, each a linear layer without bias.

    A set can be for the first coordinates of embeddings alone, as in Matryoshka representations
    (Kusupati et al., 2022, arXiv:2205.13147); they are normalised again, so scores stay cosines.

    Args:
        config: the number of prototypes in each set.
        input_dim: length of an embedding.

    Raises:
        UserError: `dims` does not fit the sets or the embeddings.
    """

    class Config(NamedConfig):
        """Settings of prototypes."""

        LATER: ClassVar[frozenset[str]] = frozenset({"dims"})

        name: Literal["prototypes"] = "prototypes"
        n_prototypes: list[Annotated[int, Field(ge=1)]] = Field(default=[3000], min_length=1)
        """Number of prototypes in each set."""
        dims: list[Annotated[int, Field(ge=1)]] = []
        """Number of first coordinates of an embedding that each set is compared with; empty for all."""

    def __init__(self, config: Config, *, input_dim: int) -> None:
        super().__init__()
        counts, dims = config.n_prototypes, config.dims or [input_dim] * len(config.n_prototypes)
        if len(dims) != len(counts) or max(dims) > input_dim:
            raise UserError(
                f"prototypes for the first {config.dims} coordinates do not fit {len(counts)} sets and "
                f"embeddings of length {input_dim}; give one number for each set, {input_dim} at most"
            )
        self.sets = nn.ModuleList(
            nn.Linear(dim, count, bias=False) for dim, count in zip(dims, counts, strict=True)
        )
        self.normalize()

    @property
    def weights(self) -> list[nn.Parameter]:
        """The prototypes of each set, `(K, D)`."""
        return [layer.get_parameter("weight") for layer in self.sets]

    @torch.no_grad()
    def normalize(self) -> None:
        """Normalises every prototype to length one."""
        for weight in self.weights:
            weight.copy_(nn.functional.normalize(weight, dim=1))

    def prefix(self, embeddings: Tensor, number: int) -> Tensor:
        """Returns what a set is compared with: L2-normalised embeddings `(..., D)`, or their first part."""
        dim = self.weights[number].shape[1]
        if dim == embeddings.shape[-1]:
            return embeddings
        return nn.functional.normalize(embeddings[..., :dim], dim=-1)

    def forward(self, embeddings: Tensor) -> list[Tensor]:
        """Maps L2-normalised embeddings `(N, D)` to scores `(N, K)` for each set.

        Scores have the prototypes' precision. Autocast is disabled: codes are exponentials of scores
        divided by a small number, so rounding scores to 16 bits would change them noticeably.
        """
        with torch.autocast(embeddings.device.type, enabled=False):
            return [
                layer(self.prefix(embeddings.to(layer.get_parameter("weight").dtype), number))
                for number, layer in enumerate(self.sets)
            ]


def prototype_layers(head: nn.Module, prototypes: Prototypes) -> dict[str, nn.Module]:
    """Returns `Method.layers` for a method whose prototypes score L2-normalised embeddings.

    Args:
        head: maps features `(N, D)` to embeddings `(N, d)`.
        prototypes: score L2-normalised embeddings.
    """
    embed = nn.Sequential(head, _UnitLength())
    layers: dict[str, nn.Module] = {"head": embed}
    for number in range(len(prototypes.sets)):
        name = f"prototypes.{number}" if number else "prototypes"
        layers[name] = nn.Sequential(embed, _OneSet(prototypes, number))
    return layers


class _UnitLength(nn.Module):
    def forward(self, embeddings: Tensor) -> Tensor:
        return l2_normalize(embeddings)


class _OneSet(nn.Module):
    def __init__(self, prototypes: Prototypes, number: int) -> None:
        super().__init__()
        self.prototypes, self.number = prototypes, number

    def forward(self, embeddings: Tensor) -> Tensor:
        scores: list[Tensor] = self.prototypes(embeddings)
        return scores[self.number]
