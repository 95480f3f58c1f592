"""Official checkpoints of BEiT (Bao et al., 2022, arXiv:2106.08254) and BEiT v2 (arXiv:2208.06366)."""

import re
from typing import ClassVar, Literal

import torch

from ssl_zoo.formats.base import FORMATS, ForeignFile, Format, Imported, StateDict, grouped
from ssl_zoo.formats.networks import NetworkSettings
from ssl_zoo.formats.released import read_released

HALF = (0.5, 0.5, 0.5)
"""Mean and std of BEiT's input."""
TABLE = "relative_position_bias_table"
WORDS = {
    "head": "the classifier",
    "lm_head": "the head over visual words",
    "mask_token": "the mask token",
    "cls_pt_layers": "the blocks of patch aggregation",
}
_SCALE = re.compile(r"(blocks\.\d+)\.gamma_([12])")
_OWN_TABLE = re.compile(rf"(blocks\.\d+\.attn)\.{TABLE}")


@FORMATS.register
class Official(Format):
    """A checkpoint of BEiT or BEiT v2, pretrained or fine-tuned, under `model` or `module`.

    The feature is the class token, or the mean of the patches where the file has `fc_norm`. Images have
    the size of training. BEiT takes images of mean and std 0.5; set ImageNet's for BEiT v2.
    """

    source: ClassVar[str] = (
        "microsoft/unilm, beit and beit2, modeling_pretrain.py, modeling_finetune.py"
    )

    class Config(NetworkSettings):
        """Settings of BEiT's format."""

        name: Literal["beit"] = "beit"
        mean: tuple[float, float, float] = HALF
        """Mean of each channel in training, for values in [0, 1]."""
        std: tuple[float, float, float] = HALF
        """Standard deviation of each channel in training, for values in [0, 1]."""

    def recognises(self, file: ForeignFile) -> bool:
        """Returns whether blocks have biases of queries, and attention one of relative positions."""
        names = _weights(file)
        return "blocks.0.attn.q_bias" in names and any(name.endswith(TABLE) for name in names)

    def read(self, file: ForeignFile) -> Imported:
        """Returns the backbone.

        Raises:
            UserError: there is none, or it has no square window.
        """
        own: StateDict = {}
        aside: StateDict = {}
        for name, tensor in _weights(file).items():
            if not name.endswith(("relative_position_index", ".q_bias", ".v_bias", ".k_bias")):
                (aside if name.split(".")[0] in WORDS else own)[_renamed(name)] = tensor
            elif name.endswith(".q_bias"):
                stem = name.removesuffix("q_bias")
                values = _weights(file)[f"{stem}v_bias"]
                own[f"{stem}qkv.bias"] = torch.cat([tensor, torch.zeros_like(tensor), values])
        mean_pooled = "fc_norm.weight" in own
        for part in ("weight", "bias") if mean_pooled else ():
            own[f"norm.{part}"] = own.pop(f"fc_norm.{part}")
        tables = [tensor for name, tensor in own.items() if name.endswith(TABLE)]
        network = read_released(
            own,
            what=file.what,
            heads=tables[0].shape[1] if tables else self.config.heads,
            positions="shared_relative" if f"rel_pos_bias.{TABLE}" in own else "relative",
            pooling="mean" if mean_pooled else "class",
        )
        return Imported(
            network.settings,
            network.weights,
            grouped(aside, WORDS),
            method="beit",
            image_size=network.settings.get("image_size", 224),
            normalisation=(self.config.mean, self.config.std),
        )


def _weights(file: ForeignFile) -> StateDict:
    """Returns the weights, which BEiT v2 stores under `module` or `model`."""
    return file.main() or file.dicts.get("module", {})


def _renamed(name: str) -> str:
    name = _SCALE.sub(r"\1.ls\2.gamma", name)
    return _OWN_TABLE.sub(rf"\1.relative.{TABLE}", name)
