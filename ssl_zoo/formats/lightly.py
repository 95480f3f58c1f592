"""Checkpoints of lightly's examples, written by PyTorch Lightning."""

from typing import ClassVar, Literal

from ssl_zoo.formats.base import (
    FORMATS,
    ForeignFile,
    Format,
    Imported,
    below,
    grouped,
    split_prefix,
)
from ssl_zoo.formats.networks import NetworkSettings, is_network, read_network, to_imported

PREFIXES = ("teacher_backbone.", "backbone.")
"""Attributes of the network; the first one in the file is read."""
HEAD = "projection_head.layers."
"""Names of its projection heads (lightly/models/modules/heads.py)."""


@FORMATS.register
class Lightly(Format):
    """A lightly checkpoint, whose ResNet often is an `nn.Sequential` with numbered names.

    Networks of torchvision and timm are read too. If there are a student and a teacher, the teacher is
    read.
    """

    source: ClassVar[str] = "lightly-ai/lightly, examples/pytorch_lightning/"

    class Config(NetworkSettings):
        """Settings of lightly's format."""

        shorthand: ClassVar[str] = "network"

        name: Literal["lightly"] = "lightly"
        network: str | None = None
        """Attribute of the module with the network; by default `teacher_backbone`, else `backbone`;
        empty if the file has only the network."""

    def recognises(self, file: ForeignFile) -> bool:
        """Returns whether a network has lightly's numbered names, or stands beside lightly's head."""
        return any(
            file.has(f"{prefix}0.weight", f"{prefix}4.0.conv1.")
            or (file.has(HEAD) and is_network(split_prefix(file.main(), prefix)[0]))
            for prefix in PREFIXES
        )

    def read(self, file: ForeignFile) -> Imported:
        """Returns the network."""
        prefix = next((each for each in PREFIXES if file.has(each)), "backbone.")
        if self.config.network is not None:
            prefix = f"{self.config.network}." if self.config.network else ""
        own, others = below(file, file.main(), prefix)
        network = read_network(own, what=file.what, heads=self.config.heads)
        words = {
            "projection_head": "the projection head",
            "prediction_head": "the prediction head",
            "prototypes": "the prototypes",
            "student_backbone": "the student",
            "backbone": "the network without momentum",
            "backbone_momentum": "the momentum network",
            "criterion": "the loss",
        }
        return to_imported(network, grouped(others, words))
