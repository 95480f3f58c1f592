"""Checkpoints of SimCLR for torch: converted from the authors' TensorFlow checkpoints, or of ports."""

from typing import ClassVar, Literal

from ssl_zoo.errors import UserError
from ssl_zoo.formats.base import FORMATS, UNNORMALISED, ForeignFile, Format, Imported, first_names
from ssl_zoo.formats.networks import NetworkSettings, is_network, read_below


@FORMATS.register
class Official(Format):
    """Checkpoints of SimCLR converted to torch, whose networks take pixels in [0, 1] without
    normalisation.

    Recognised are `encoder.` with `projector.` (Spijkervet/SimCLR) and `backbone.` with a head of two
    layers instead of the classifier (sthalles/SimCLR). Files converted with tonylins/simclr-converter
    have only torchvision's names: they are recognised as torchvision's, and need `--format simclr`,
    which disables normalisation of the input.
    """

    source: ClassVar[str] = (
        "tonylins/simclr-converter, convert.py, eval.py; Spijkervet/SimCLR, simclr/simclr.py; "
        "sthalles/SimCLR, models/resnet_simclr.py"
    )

    class Config(NetworkSettings):
        """Settings of SimCLR's format."""

        name: Literal["simclr"] = "simclr"

    def recognises(self, file: ForeignFile) -> bool:
        """Returns whether the file has a ResNet and a head with the names of the ports."""
        parts = {name.split(".")[0] for name in file.main()}
        if parts == {"encoder", "projector"}:
            return file.has("encoder.conv1.")
        return parts == {"backbone"} and file.has("backbone.conv1.", "backbone.fc.2.")

    def read(self, file: ForeignFile) -> Imported:
        """Returns the network.

        Raises:
            UserError: the file has no network.
        """
        if is_network(file.main()):
            prefix = ""
        elif file.has("encoder."):
            prefix = "encoder."
        elif file.has("backbone."):
            prefix = "backbone."
        else:
            raise UserError(
                f"'{file.what}' has no network below 'encoder.' or 'backbone.'; its names begin "
                f"{first_names(file.main())}"
            )
        words = {"projector": "the projection head"}
        return read_below(prefix, file, words, method="simclr", normalisation=UNNORMALISED)
