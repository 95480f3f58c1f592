"""Image towers of CLIP models in open_clip's files (Radford et al., 2021, arXiv:2103.00020)."""

import re
from typing import ClassVar, Literal

from pydantic import Field

from ssl_zoo.errors import UserError
from ssl_zoo.formats.base import FORMATS, ForeignFile, Format, Imported, StateDict, split_prefix
from ssl_zoo.formats.networks import NetworkSettings
from ssl_zoo.formats.released import read_released

TOWER = "visual."
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""Mean and std of CLIP's input (openai/CLIP, clip/clip.py)."""
_NAMES = {
    "class_embedding": "cls_token",
    "positional_embedding": "pos_embed",
    "conv1.weight": "patch_embed.proj.weight",
    "ln_pre.weight": "norm_pre.weight",
    "ln_pre.bias": "norm_pre.bias",
    "ln_post.weight": "norm.weight",
    "ln_post.bias": "norm.bias",
    "proj": "proj.weight",
}
_PARTS = {
    "ln_1": "norm1",
    "ln_2": "norm2",
    "attn.in_proj_": "attn.qkv.",
    "attn.out_proj": "attn.proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "ls_1": "ls1",
    "ls_2": "ls2",
}
_BLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.(.+)")


@FORMATS.register
class OpenCLIP(Format):
    """The vision transformer `visual.` of a CLIP model; features are its image embeddings.

    A file does not show the activation of its MLPs: `gelu` in most of open_clip's models, `quick_gelu` in
    those of OpenAI, MetaCLIP and DFN, whose configurations end in `-quickgelu`. It must be set.
    """

    source: ClassVar[str] = "mlfoundations/open_clip, src/open_clip/transformer.py"

    class Config(NetworkSettings):
        """Settings of open_clip's format."""

        shorthand: ClassVar[str] = "activation"

        name: Literal["open_clip"] = "open_clip"
        activation: Literal["gelu", "quick_gelu"] | None = None
        """Activation of the MLPs."""
        mean: tuple[float, float, float] = CLIP_MEAN
        """Mean of each channel in training, for values in [0, 1]."""
        std: tuple[float, float, float] = CLIP_STD
        """Standard deviation of each channel in training, for values in [0, 1]."""
        eps: float = Field(default=1e-5, gt=0, le=1e-2)
        """Epsilon of the layer normalisations."""

    def recognises(self, file: ForeignFile) -> bool:
        """Returns whether the file has CLIP's vision transformer."""
        return file.has(f"{TOWER}class_embedding", f"{TOWER}transformer.resblocks.")

    def read(self, file: ForeignFile) -> Imported:
        """Returns the image tower with its projection.

        Raises:
            UserError: there is none, or its activation is not set.
        """
        tower, others = split_prefix(file.main(), TOWER)
        if not tower:
            raise UserError(f"'{file.what}' has no weights under '{TOWER}'; pass another --format")
        if self.config.activation is None:
            raise UserError(
                f"'{file.what}' does not say whether its MLPs have GELU or OpenAI's QuickGELU; set it: "
                "--format open_clip:gelu, or open_clip:quick_gelu for models of OpenAI, MetaCLIP and DFN"
            )
        own = {_renamed(name): tensor for name, tensor in tower.items()}
        if "cls_token" in own and "pos_embed" in own:
            own["cls_token"] = own["cls_token"].reshape(1, 1, -1)
            own["pos_embed"] = own["pos_embed"][None]
        projection = own.get("proj.weight")
        if projection is not None:
            own["proj.weight"] = projection.T.contiguous()
        network = read_released(
            own,
            what=file.what,
            heads=self.config.heads,
            activation=self.config.activation,
            pre_norm=True,
            projection=None if projection is None else projection.shape[1],
            eps=self.config.eps,
        )
        aside: dict[str, StateDict] = {"the text tower": others} if others else {}
        return Imported(
            network.settings,
            network.weights,
            aside,
            method="clip",
            image_size=network.settings.get("image_size", 224),
            normalisation=(self.config.mean, self.config.std),
        )


def _renamed(name: str) -> str:
    block = _BLOCK.fullmatch(name)
    if block is None:
        return _NAMES.get(name, name)
    for old, new in _PARTS.items():
        if block[2].startswith(old):
            return f"blocks.{block[1]}.{new}{block[2].removeprefix(old)}"
    return name
