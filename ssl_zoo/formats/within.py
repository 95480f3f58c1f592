"""Finds the networks within a file of no known format, under whatever prefix they have."""

from collections.abc import Iterable
from dataclasses import dataclass

from ssl_zoo.formats.base import ForeignFile, split_prefix
from ssl_zoo.formats.networks import is_network, split_network

LAST = ("layer4.0.conv1.weight", "7.0.conv1.weight", "cls_token", "class_token")
"""A name of each kind of network: a ResNet, a numbered one, the transformers of timm and torchvision."""


@dataclass(frozen=True)
class Within:
    """Where a network is in a file.

    Attributes:
        place: key of the state dict in `ForeignFile.dicts`.
        prefix: prefix of its names there, with the dot; may be empty.
    """

    place: str
    prefix: str

    @property
    def path(self) -> str:
        """Place and prefix as `--format prefixed:PATH` takes them."""
        return f"{self.place}.{self.prefix}" if self.place else self.prefix


def networks_within(file: ForeignFile) -> list[Within]:
    """Returns where whole ResNets and plain vision transformers are, in the order of the file."""
    return [
        Within(place, prefix)
        for place, weights in file.dicts.items()
        for prefix in _prefixes(weights)
        if is_network(split_network(split_prefix(weights, prefix)[0])[0])
    ]


def _prefixes(names: Iterable[str]) -> list[str]:
    """Returns the prefixes under which a name is that of a network."""
    return [
        name.removesuffix(last)
        for name in names
        for last in LAST
        if name == last or name.endswith(f".{last}")
    ]
