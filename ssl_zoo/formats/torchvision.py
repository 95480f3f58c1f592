"""Plain state dicts of torchvision's ResNets and vision transformers."""

from typing import ClassVar, Literal

from ssl_zoo.formats.base import FORMATS, ForeignFile, Format, Imported
from ssl_zoo.formats.networks import NetworkSettings, is_network, is_timm_transformer, read_below


@FORMATS.register
class TorchvisionFormat(Format):
    """A state dict in torchvision's names, with or without the classifier; many projects write these.

    Depth, width and stem follow from the shapes. timm's ResNets bear the same names.
    """

    source: ClassVar[str] = "pytorch/vision, torchvision/models/resnet.py, vision_transformer.py"

    class Config(NetworkSettings):
        """Settings of torchvision's format."""

        name: Literal["torchvision"] = "torchvision"

    def recognises(self, file: ForeignFile) -> bool:
        """Says whether all names are torchvision's."""
        return is_network(file.main()) and not is_timm_transformer(file.main())

    def read(self, file: ForeignFile) -> Imported:
        """Returns the network; its input is normalised as for ImageNet."""
        return read_below("", file, {}, heads=self.config.heads)
