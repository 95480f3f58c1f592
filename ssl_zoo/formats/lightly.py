"""Checkpoints of lightly's examples, written by PyTorch Lightning."""

import re
from typing import ClassVar, Literal

from ssl_zoo.formats.base import FORMATS, ForeignFile, Format, Imported, StateDict, below, grouped
from ssl_zoo.formats.networks import NetworkSettings, read_network, to_imported

PREFIXES = ("teacher_backbone.", "backbone.")
"""Attributes of the network; the first one in the file is read."""
STAGES = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
"""torchvision's name for each index of `nn.Sequential(*list(resnet.children())[:-1])`."""


@FORMATS.register
class Lightly(Format):
    """A lightly checkpoint, whose ResNet is torchvision's as an `nn.Sequential` with numbered names.

    If there are a student and a teacher, the teacher is read.
    """

    source: ClassVar[str] = "lightly-ai/lightly, examples/pytorch_lightning/"

    class Config(NetworkSettings):
        """Settings of lightly's format."""

        shorthand: ClassVar[str] = "network"

        name: Literal["lightly"] = "lightly"
        network: str | None = None
        """Attribute of the module with the network; by default `teacher_backbone`, else `backbone`."""

    def recognises(self, file: ForeignFile) -> bool:
        """Returns whether a network has lightly's numbered names."""
        return any(file.has(f"{prefix}0.weight", f"{prefix}4.0.conv1.") for prefix in PREFIXES)

    def read(self, file: ForeignFile) -> Imported:
        """Returns the network."""
        own_prefix = f"{self.config.network}." if self.config.network else None
        found = (each for each in PREFIXES if file.has(each))
        prefix = own_prefix or next(found, "backbone.")
        own, others = below(file, file.main(), prefix)
        network = read_network(_named(own), what=file.what, heads=self.config.heads)
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


def _named(weights: StateDict) -> StateDict:
    """Returns a numbered ResNet with torchvision's names; other names are unchanged."""
    found = {}
    for name, tensor in weights.items():
        place = re.match(r"(\d+)\.", name)
        known = STAGES.get(place[1]) if place else None
        found[name if known is None else f"{known}.{name.split('.', 1)[1]}"] = tensor
    return found
