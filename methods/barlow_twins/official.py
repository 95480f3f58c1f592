"""Checkpoints of the official code of Barlow Twins."""

from typing import ClassVar, Literal

from ssl_zoo.formats.base import FORMATS, ForeignFile, Format, Imported
from ssl_zoo.formats.networks import NetworkSettings, read_below

WORDS = {"projector": "the projector", "bn": "the normalisation of embeddings"}


@FORMATS.register
class Official(Format):
    """Official checkpoints of Barlow Twins: `module.backbone.` before torchvision's names, under `model`.

    `resnet50.pth`, which is written at the end of training, is a plain state dict of torchvision and is
    recognised as such.
    """

    source: ClassVar[str] = "facebookresearch/barlowtwins, main.py, hubconf.py"

    class Config(NetworkSettings):
        """Settings of Barlow Twins' official format."""

        name: Literal["barlow_twins"] = "barlow_twins"

    def recognises(self, file: ForeignFile) -> bool:
        """Returns whether the file has a backbone, a projector and a normalisation without
        parameters."""
        names = file.main()
        return (
            file.has("backbone.conv1.", "projector.", "bn.running_mean")
            and "bn.weight" not in names
            and not file.has("classifier.")
        )

    def read(self, file: ForeignFile) -> Imported:
        """Returns the backbone."""
        return read_below("backbone.", file, WORDS, method="barlow_twins")
