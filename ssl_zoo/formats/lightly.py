"""Checkpoints of lightly's examples, which PyTorch Lightning writes."""

import re
from typing import ClassVar, Literal

from ssl_zoo.formats.base import FORMATS, ForeignFile, Format, Imported, StateDict, below, grouped
from ssl_zoo.formats.networks import NetworkSettings, read_network, to_imported

PREFIXES = ("teacher_backbone.", "backbone.")
"""Of the network to be used, the first that a file has."""
STAGES = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
"""torchvision's name for each place of `nn.Sequential(*list(resnet.children())[:-1])`."""


@FORMATS.register
class Lightly(Format):
    """A checkpoint of lightly, whose ResNet is torchvision's cut into a sequence and so lost its names.

    Where there are a student and a teacher, the teacher is read.
    """

    source: ClassVar[str] = "lightly-ai/lightly, examples/pytorch_lightning/"

    class Config(NetworkSettings):
        """Settings of lightly's format."""

        shorthand: ClassVar[str] = "network"

        name: Literal["lightly"] = "lightly"
        network: str | None = None
        """Attribute of the module that holds the network; `teacher_backbone` or `backbone` if not given."""

    def recognises(self, file: ForeignFile) -> bool:
        """Says whether a network is numbered as lightly's is."""
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
    """Returns a numbered ResNet in torchvision's names; any other name stays as it is."""
    found = {}
    for name, tensor in weights.items():
        place = re.match(r"(\d+)\.", name)
        known = STAGES.get(place[1]) if place else None
        found[name if known is None else f"{known}.{name.split('.', 1)[1]}"] = tensor
    return found
