"""Plain state dicts of torchvision's ResNets and vision transformers."""

from typing import ClassVar, Literal

from ssl_zoo.formats.base import FORMATS, ForeignFile, Format, Imported
from ssl_zoo.formats.networks import NetworkSettings, is_network, is_timm_transformer, read_below

BELOW = "backbone."
"""Prefix that many projects use for a network inside a larger module."""


@FORMATS.register
class TorchvisionFormat(Format):
    """A state dict with torchvision's names, with or without classifier; many projects write these.

    Depth, width and stem follow from the shapes. timm's ResNets have the same names. All names may
    be under `backbone.`.
    """

    source: ClassVar[str] = "pytorch/vision, torchvision/models/resnet.py, vision_transformer.py"

    class Config(NetworkSettings):
        """Settings of torchvision's format."""

        name: Literal["torchvision"] = "torchvision"

    def recognises(self, file: ForeignFile) -> bool:
        """Returns whether all names are torchvision's."""
        prefix = _prefix(file)
        names = [name.removeprefix(prefix) for name in file.main()]
        return is_network(names) and not is_timm_transformer(names)

    def read(self, file: ForeignFile) -> Imported:
        """Returns the network, with ImageNet normalisation of its input."""
        return read_below(_prefix(file), file, {}, heads=self.config.heads)


def _prefix(file: ForeignFile) -> str:
    """Returns the common prefix of all names in a file."""
    return BELOW if all(name.startswith(BELOW) for name in file.main()) else ""
