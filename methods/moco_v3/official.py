"""Checkpoints of the official code of MoCo v3."""

from typing import ClassVar, Literal

from ssl_zoo.formats.base import FORMATS, ForeignFile, Format, Imported
from ssl_zoo.formats.networks import NetworkSettings, read_below

SMALL = (384, 12)
"""Width and number of attention heads of its small vision transformer; others of this width have 6
(facebookresearch/moco-v3, vits.py)."""
WORDS = {
    "base_encoder": "the network",
    "momentum_encoder": "the momentum network",
    "predictor": "the predictor",
}


@FORMATS.register
class Official(Format):
    """Official checkpoints of MoCo v3: `module.base_encoder.` before torchvision's or timm's names.

    Head, momentum network and predictor are not read.
    """

    source: ClassVar[str] = (
        "facebookresearch/moco-v3, moco/builder.py, vits.py, convert_to_deit.py"
    )

    class Config(NetworkSettings):
        """Settings of MoCo v3's official format."""

        shorthand: ClassVar[str] = "network"

        name: Literal["moco_v3"] = "moco_v3"
        network: Literal["base_encoder", "momentum_encoder"] = "base_encoder"
        """Which of the two networks to read; the authors evaluate the first."""

    def recognises(self, file: ForeignFile) -> bool:
        """Returns whether the file has a network and its momentum copy."""
        return file.has("base_encoder.", "momentum_encoder.")

    def read(self, file: ForeignFile) -> Imported:
        """Returns the network, or its momentum copy if set."""
        prefix = f"{self.config.network}."
        token = file.main().get(f"{prefix}cls_token")
        known = dict([SMALL]).get(token.shape[-1]) if token is not None else None
        heads = self.config.heads or known
        return read_below(prefix, file, WORDS, heads=heads, method="moco_v3")
