"""Checkpoints of the official code of VICReg."""

from typing import ClassVar, Literal

from ssl_zoo.formats.base import FORMATS, ForeignFile, Format, Imported
from ssl_zoo.formats.networks import NetworkSettings, read_below


@FORMATS.register
class Official(Format):
    """Official checkpoints of VICReg: `module.backbone.` before torchvision's names, under `model`.

    `resnet50.pth`, which is written at the end of training, is a plain state dict of torchvision and is
    recognised as such.
    """

    source: ClassVar[str] = "facebookresearch/vicreg, main_vicreg.py, resnet.py, hubconf.py"

    class Config(NetworkSettings):
        """Settings of VICReg's official format."""

        name: Literal["vicreg"] = "vicreg"

    def recognises(self, file: ForeignFile) -> bool:
        """Returns whether the file has only a backbone and a projector with biases."""
        parts = {name.split(".")[0] for name in file.main()}
        return (
            parts == {"backbone", "projector"}
            and file.has("backbone.conv1.")
            and file.has("projector.0.bias")
        )

    def read(self, file: ForeignFile) -> Imported:
        """Returns the backbone."""
        return read_below("backbone.", file, {"projector": "the projector"}, method="vicreg")
