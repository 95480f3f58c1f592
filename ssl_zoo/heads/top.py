"""The head and prototypes that a backbone was trained with, stored next to it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor, nn

from ssl_zoo.config import Config, validate
from ssl_zoo.errors import UserError
from ssl_zoo.heads.base import HEADS
from ssl_zoo.heads.prototypes import Prototypes, prototype_layers


class _Settings(Config):
    """The settings of head and prototypes in a file."""

    head: dict[str, Any]
    """Settings of the head; they are validated when it is built."""
    input_dim: int = Field(ge=1)
    """Length of its input features."""
    n_prototypes: list[Annotated[int, Field(ge=1)]] = Field(min_length=1)
    """Number of prototypes in each set."""


@dataclass(frozen=True)
class Top:
    """A head and prototypes as settings and weights that can be saved to a file.

    Attributes:
        head: settings of the head.
        input_dim: length of its input features.
        n_prototypes: number of prototypes in each set.
        weights: `head.NAME` and `prototypes.NAME`.
    """

    head: dict[str, Any]
    input_dim: int
    n_prototypes: list[int]
    weights: dict[str, Tensor]

    @classmethod
    def of(
        cls, layers: Mapping[str, nn.Module], *, head: dict[str, Any], input_dim: int
    ) -> "Top | None":
        """Returns the head and prototypes behind `prototype_layers`; None for other layers.

        Args:
            head: settings of the head.
            input_dim: length of its input features.
        """
        state = {
            part: tensor.detach()
            for name, layer in layers.items()
            if name.partition(".")[0] == "prototypes"
            for part, tensor in layer.state_dict().items()
        }
        weights = {
            new + name.removeprefix(old): tensor
            for name, tensor in state.items()
            for old, new in (("0.0.", "head."), ("1.prototypes.", "prototypes."))
            if name.startswith(old)
        }
        sets = [len(t) for name, t in weights.items() if name.startswith("prototypes.sets.")]
        return cls(head, input_dim, sets, weights) if sets else None

    @classmethod
    def read(cls, settings: Any, weights: dict[str, Tensor], *, what: str) -> "Top":
        """Returns the head and prototypes in a file.

        Args:
            settings: as returned by `settings`.
            what: names the file in errors.

        Raises:
            UserError: the settings are something else.
        """
        known = validate(_Settings, settings, source=f"'{what}'")
        return cls(**known.model_dump(), weights=weights)

    def settings(self) -> dict[str, Any]:
        """Returns everything but the weights, as JSON-serialisable values."""
        return {
            "head": self.head,
            "input_dim": self.input_dim,
            "n_prototypes": self.n_prototypes,
        }

    def _dims(self) -> list[int]:
        """Returns the number of coordinates that each set is compared with; empty if weights lack one."""
        names = [f"prototypes.sets.{number}.weight" for number in range(len(self.n_prototypes))]
        if any(name not in self.weights for name in names):
            return []
        return [self.weights[name].shape[-1] for name in names]

    def layers(self) -> dict[str, nn.Module]:
        """Returns modules that take features, like `Method.layers`, in evaluation mode.

        Raises:
            UserError: weights and settings do not match.
        """
        head = HEADS.build(self.head, input_dim=self.input_dim)
        prototypes = Prototypes(
            Prototypes.Config(n_prototypes=self.n_prototypes, dims=self._dims()),
            input_dim=int(head.output_dim),  # type: ignore[arg-type]
        )
        both = nn.ModuleDict({"head": head, "prototypes": prototypes}).eval()
        try:
            both.load_state_dict(self.weights)
        except RuntimeError as error:
            reason = str(error).splitlines()[1:2] or [str(error)]
            raise UserError(
                f"the weights of head and prototypes do not match their settings ({reason[0].strip()})"
            ) from None
        return prototype_layers(head, prototypes)
