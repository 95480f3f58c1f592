"""Checkpoints of the official code of MoCo v1 and v2."""

from typing import ClassVar, Literal

from ssl_zoo.formats.base import FORMATS, ForeignFile, Format, Imported
from ssl_zoo.formats.networks import NetworkSettings, read_below

WORDS = {
    "encoder_q": "the network",
    "encoder_k": "the momentum network",
    "queue": "the queue",
    "queue_ptr": "its position",
}


@FORMATS.register
class Official(Format):
    """Official checkpoints of MoCo v1 and v2: `module.encoder_q.` before torchvision's names.

    The head, which replaces torchvision's classifier, the momentum network and the queue are not read.
    In version 2, the head has a hidden layer.
    """

    source: ClassVar[str] = "facebookresearch/moco, moco/builder.py, main_lincls.py"

    class Config(NetworkSettings):
        """Settings of MoCo's official format."""

        shorthand: ClassVar[str] = "network"

        name: Literal["moco_v2"] = "moco_v2"
        network: Literal["encoder_q", "encoder_k"] = "encoder_q"
        """Which of the two networks to read: that of queries, which the authors evaluate, or that of
        keys."""

    def recognises(self, file: ForeignFile) -> bool:
        """Returns whether the file has a network of queries."""
        return file.has("encoder_q.")

    def read(self, file: ForeignFile) -> Imported:
        """Returns the network of queries, or that of keys if set."""
        prefix = f"{self.config.network}."
        hidden = f"{prefix}fc.2.weight" in file.main()
        return read_below(prefix, file, WORDS, method="moco_v2" if hidden else "moco_v1")
