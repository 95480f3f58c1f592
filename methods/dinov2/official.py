"""Checkpoints of the official code of DINOv2, and of Franca, which has the same names."""

from typing import ClassVar, Literal

import torch

from ssl_zoo.errors import UserError
from ssl_zoo.formats.base import (
    FORMATS,
    ForeignFile,
    Format,
    Imported,
    StateDict,
    first_names,
    grouped,
    split_prefix,
)
from ssl_zoo.formats.networks import NetworkSettings
from ssl_zoo.formats.released import read_released

BELOW = "backbone."
SCALE = "ls1.gamma"
WORDS = {
    "dino_head": "the head",
    "ibot_head": "the head of patches",
    "mask_token": "the mask token",
}


@FORMATS.register
class Official(Format):
    """Backbones of DINOv2 with or without registers, and the `teacher` of its training files.

    Reads those of Franca and timm's DINOv2 too. Positions for other image sizes are interpolated as by
    the authors: antialiased with registers, and without them as in DINO.
    """

    source: ClassVar[str] = (
        "facebookresearch/dinov2, dinov2/models/vision_transformer.py, dinov2/train/train.py; "
        "valeoai/Franca"
    )

    class Config(NetworkSettings):
        """Settings of DINOv2's official format."""

        name: Literal["dinov2"] = "dinov2"

    def recognises(self, file: ForeignFile) -> bool:
        """Returns whether there is a backbone with positions and LayerScale; no student beside it."""
        names = _own(file)[0]
        scaled = any(name.startswith("blocks.") and name.endswith(SCALE) for name in names)
        plain = "student" not in file.dicts and not file.has("decoder")
        return plain and scaled and {"pos_embed", "cls_token"} <= names.keys()

    def read(self, file: ForeignFile) -> Imported:
        """Returns the backbone.

        Raises:
            UserError: there is none.
        """
        weights, others = _own(file)
        if not {"pos_embed", "cls_token"} <= weights.keys():
            raise UserError(
                f"'{file.what}' has no backbone of DINOv2; its names start with {first_names(file.main())}"
            )
        own = _with_their_names(weights)
        others |= {name: own.pop(name) for name in tuple(own) if name.split(".")[0] in _UNUSED}
        network = read_released(
            own,
            what=file.what,
            heads=self.config.heads,
            resampling="antialiased" if "register_tokens" in own else "plain",
        )
        return Imported(
            network.settings,
            network.weights,
            grouped(others, WORDS),
            method="dinov2",
            image_size=224,  # of evaluations in the paper (section 7), not of the positions
        )


_UNUSED = ("mask_token", "head")


def _own(file: ForeignFile) -> tuple[StateDict, StateDict]:
    """Returns the weights of the backbone, without prefix, and those beside them."""
    weights = file.dicts.get("teacher") or file.main()
    own, others = split_prefix(weights, BELOW)
    return (own, others) if own else (weights, {})


def _with_their_names(weights: StateDict) -> StateDict:
    """Returns weights with DINOv2's names for registers, and a position of the class token."""
    own = dict(weights)
    if (
        "reg_token" in own
    ):  # timm has registers without positions, and adds none to the class token
        own["register_tokens"] = own.pop("reg_token")
        first = torch.zeros_like(own["pos_embed"][:, :1])
        own["pos_embed"] = torch.cat([first, own["pos_embed"]], dim=1)
    registers = own.get("register_tokens")
    if registers is not None and not registers.numel():
        del own["register_tokens"]
    return own
