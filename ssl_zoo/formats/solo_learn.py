"""Checkpoints of solo-learn, written by PyTorch Lightning."""

from typing import ClassVar, Literal

from ssl_zoo.formats.base import FORMATS, ForeignFile, Format, Imported, grouped
from ssl_zoo.formats.base import below as weights_below
from ssl_zoo.formats.networks import NetworkSettings, read_network, to_imported

PREFIXES = ("backbone.", "encoder.")
"""Prefixes of its network, in current and first versions."""
STEM = "cifar_padded"
"""Its stem for small images pads the 3x3 convolution by 2, so feature maps are two pixels larger."""


@FORMATS.register
class SoloLearn(Format):
    """A solo-learn checkpoint: a network with torchvision or timm names and an online classifier.

    All its methods use the same names. Momentum networks, heads and the classifier are ignored.
    Versions that store their options as OmegaConf objects write files that cannot be read without
    running code; these files are refused.
    """

    source: ClassVar[str] = "vturrisi/solo-learn, solo/methods/base.py, main_linear.py"

    class Config(NetworkSettings):
        """Settings of solo-learn's format."""

        name: Literal["solo_learn"] = "solo_learn"

    def recognises(self, file: ForeignFile) -> bool:
        """Returns whether there are an online classifier and a network with known names."""
        has_network = any(
            file.has(f"{prefix}{first}")
            for prefix in PREFIXES
            for first in ("conv1.", "cls_token")
        )
        return has_network and file.has("classifier.")

    def read(self, file: ForeignFile) -> Imported:
        """Returns the network trained by gradient descent."""
        prefix = next((each for each in PREFIXES if file.has(each)), PREFIXES[0])
        own, others = weights_below(file, file.main(), prefix)
        network = read_network(own, what=file.what, heads=self.config.heads, cifar=STEM)
        words = {
            "classifier": "the online classifier",
            "projector": "the projection head",
            "momentum_backbone": "the momentum network",
            "momentum_encoder": "the momentum network",
            "momentum_projector": "the momentum projection head",
            "prototypes": "the prototypes",
            "queue": "the queue",
        }
        return to_imported(network, grouped(others, words))
