"""Checkpoints of SimCLR in torch: converted from the authors' TensorFlow, or of ports of their code."""

from typing import ClassVar, Literal

from ssl_zoo.errors import UserError
from ssl_zoo.formats.base import FORMATS, UNNORMALISED, ForeignFile, Format, Imported, first_names
from ssl_zoo.formats.networks import NetworkSettings, is_network, read_below


@FORMATS.register
class Official(Format):
    """Checkpoints of SimCLR converted to torch, whose networks see pixels in [0, 1] as they are.

    Recognised are `encoder.` with `projector.` (Spijkervet/SimCLR) and `backbone.` with a head of two
    layers in the place of the classifier (sthalles/SimCLR). What tonylins/simclr-converter makes of the
    authors' files bears torchvision's names and no other mark: it is recognised as torchvision's, and
    `--format simclr` leaves its input without normalisation, as it should be.
    """

    source: ClassVar[str] = (
        "tonylins/simclr-converter, convert.py, eval.py; Spijkervet/SimCLR, simclr/simclr.py; "
        "sthalles/SimCLR, models/resnet_simclr.py"
    )

    class Config(NetworkSettings):
        """Settings of SimCLR's format."""

        name: Literal["simclr"] = "simclr"

    def recognises(self, file: ForeignFile) -> bool:
        """Returns whether there is a ResNet with a head where the ports have it."""
        parts = {name.split(".")[0] for name in file.main()}
        if parts == {"encoder", "projector"}:
            return file.has("encoder.conv1.")
        return parts == {"backbone"} and file.has("backbone.conv1.", "backbone.fc.2.")

    def read(self, file: ForeignFile) -> Imported:
        """Returns the network.

        Raises:
            UserError: there is none.
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
