"""Frozen networks: trained networks that a method uses and does not change, such as a tokenizer.

A method names one in its settings, in a field of type `FrozenNetwork`, and finds it opened in
`run.networks`, under the name of the field: in evaluation mode, without gradients, on the run's device. It
must not register it as a submodule, so that it stays out of optimizer, averages and checkpoints.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema
from torch import Tensor, nn
from torch.nn import functional

from ssl_zoo.config import Config, NamedConfig


class NamedWeights(Config):
    """Settings that name trained weights, whose content is part of a run's definition. In YAML, the name is
    sufficient.
    """

    weights: str = Field(min_length=1)
    """A run folder, a checkpoint, a weight file of any project, a card, or `torchvision:resnet50`."""
    format: str | dict[str, Any] | None = None
    """Format of another project's file, if it is not recognised."""
    digest: str | None = Field(default=None, pattern="^[0-9a-f]{12}$")
    """First 12 hexadecimal digits of the SHA-256 of the file; None for networks published elsewhere."""

    @model_validator(mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        return value if isinstance(value, cls) else cls.entry(value)

    @classmethod
    def entry(cls, value: Any) -> dict[str, Any]:
        """Returns settings from their short form or a mapping.

        Raises:
            ValueError: the value is neither.
        """
        if isinstance(value, str | Path):
            return {"weights": str(value)}
        if not isinstance(value, Mapping):
            raise ValueError(
                f"{value!r} does not name weights; pass a run folder or a weight file"
            )
        entry = dict(value)
        if "name" in entry and "weights" not in entry:  # `init=FILE init.format=...`
            entry["weights"] = entry.pop("name")
        return entry

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"anyOf": [{"type": "string"}, handler(schema)], "description": cls.__doc__}


class FrozenNetwork(NamedWeights):
    """A trained network that a method uses. In YAML, the name is sufficient.

    Whatever `ssl_zoo.load` opens is accepted, and `untrained:BACKBONE`. The digest of its content is part of
    the run's definition, the place is not.
    """


def frozen_in(settings: NamedConfig) -> dict[str, FrozenNetwork]:
    """Returns the frozen networks that a component's settings name, by field."""
    found = {name: getattr(settings, name) for name in type(settings).model_fields}
    return {name: value for name, value in found.items() if isinstance(value, FrozenNetwork)}


class OwnView(nn.Module):
    """Turns a view of a run into the input of a frozen network: its normalisation and its size.

    Args:
        network: the network; its `transform` says how it normalises images.
        mean: of each channel, by which the run normalises its views.
        std: of each channel.
    """

    def __init__(self, network: nn.Module, *, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        transform: Any = network.transform
        here = torch.tensor([mean, std], dtype=torch.float64)
        there = torch.tensor([transform.mean, transform.std], dtype=torch.float64)
        scale, shift = here[1] / there[1], (here[0] - there[0]) / there[1]
        self.same = bool(torch.equal(here, there))
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer("scale", scale.float().view(-1, 1, 1), persistent=False)
        self.register_buffer("shift", shift.float().view(-1, 1, 1), persistent=False)

    @torch.no_grad()
    def forward(self, images: Tensor, size: int) -> Tensor:
        """Returns views `(N, C, H, W)` as the network expects them, `(N, C, size, size)` float32.

        Resized bilinearly, with antialiasing if they shrink.
        """
        shown = images.float()
        if not self.same:
            shown = shown * self.scale.float() + self.shift.float()
        if shown.shape[-2:] == (size, size):
            return shown
        return functional.interpolate(shown, size=(size, size), mode="bilinear", antialias=True)
