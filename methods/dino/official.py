"""Checkpoints of the official code of DINO."""

from typing import ClassVar, Literal

from ssl_zoo.errors import UserError
from ssl_zoo.formats.base import FORMATS, ForeignFile, Format, Imported
from ssl_zoo.formats.networks import NetworkSettings, is_network, read_below

MASK = "backbone.masked_embed"
"""The mask token of iBOT's students (bytedance/ibot, models/vision_transformer.py)."""


@FORMATS.register
class Official(Format):
    """Official checkpoints of DINO: a `teacher` and a `student`, each with `backbone.` and `head.`.

    Reads the teacher by default; a ResNet or a vision transformer. For images of a different size than
    in training, positions are interpolated as in the authors' code. Files with only the teacher's
    backbone are recognised as plain files of timm or torchvision, and interpolated as in timm; `--format
    dino` reads them like the authors' code. Files of iBOT have the same names.
    """

    source: ClassVar[str] = (
        "facebookresearch/dino, main_dino.py, utils.py (load_pretrained_weights), vision_transformer.py"
    )

    class Config(NetworkSettings):
        """Settings of DINO's official format."""

        shorthand: ClassVar[str] = "network"

        name: Literal["dino"] = "dino"
        network: Literal["teacher", "student"] = "teacher"
        """Which of the two networks to read."""

    def recognises(self, file: ForeignFile) -> bool:
        """Returns whether the file has a teacher and a student."""
        return "teacher" in file.dicts and "student" in file.dicts

    def read(self, file: ForeignFile) -> Imported:
        """Returns the backbone of the teacher, or of the student if set.

        Raises:
            UserError: the file has neither a teacher or student nor a plain backbone.
        """
        heads = self.config.heads
        weights = file.dicts.get(self.config.network)
        if weights is None and is_network(file.main()):
            return _as_theirs(read_below("", file, {}, heads=heads, method="dino"))
        if weights is None:
            raise UserError(
                f"'{file.what}' has no '{self.config.network}'; its keys are: {', '.join(file.keys)}"
            )
        masked = {name: t for name, t in weights.items() if name == MASK}
        plain = {name: t for name, t in weights.items() if name not in masked}
        found = read_below(
            "backbone.", file, {"head": "the head"}, weights=plain, heads=heads, method="dino"
        )
        if masked:
            found.aside["the mask token"] = masked
        other = "student" if self.config.network == "teacher" else "teacher"
        if other in file.dicts:
            found.aside[f"the {other}"] = file.dicts[other]
        return _as_theirs(found)


def _as_theirs(found: Imported) -> Imported:
    """Makes a vision transformer interpolate its positions as in the authors' code."""
    if found.backbone["name"] == "vit":
        found.backbone["resampling"] = "plain"
    return found
