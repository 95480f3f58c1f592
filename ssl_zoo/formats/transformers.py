"""Vision models of Hugging Face's transformers: a file, or a folder with its `config.json`."""

import re
from typing import Any, ClassVar, Literal

from ssl_zoo.data.base import IMAGENET_MEAN, IMAGENET_STD
from ssl_zoo.errors import UserError
from ssl_zoo.formats.base import FORMATS, ForeignFile, Format, Imported, StateDict, grouped
from ssl_zoo.formats.networks import NetworkSettings
from ssl_zoo.formats.released import fused, read_released, usual_heads, with_periods

HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""Mean and std of the input of its ViT and BEiT."""
Kind = Literal["plain", "scaled", "relative", "rotary"]
"""Kind of network: ViT, DINOv2 (which has LayerScale), BEiT, DINOv3."""
EPS: dict[Kind, float] = {"plain": 1e-12, "scaled": 1e-6, "relative": 1e-12, "rotary": 1e-5}
"""Epsilon of layer normalisations without a `config.json`, as in the released models."""
TABLE = "relative_position_bias.relative_position_bias_table"
WORDS = {"classifier": "the classifier", "pooler": "the pooler", "decoder": "the decoder"}
_START = re.compile(r"((?:\w+\.)?)embeddings\.patch_embeddings\.(?:projection\.)?weight")
_LAYER = re.compile(r"(?:encoder\.|model\.)?layer\.(\d+)\.(.+)")
_NAMES = {
    "embeddings.cls_token": "cls_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.register_tokens": "register_tokens",
    "layernorm": "norm",
    "embeddings.patch_embeddings.projection": "patch_embed.proj",
    "embeddings.patch_embeddings": "patch_embed.proj",
    f"encoder.{TABLE}": "rel_pos_bias.relative_position_bias_table",
}
_PARTS = {
    "attention.attention.query": "q",
    "attention.attention.key": "k",
    "attention.attention.value": "v",
    "attention.q_proj": "q",
    "attention.k_proj": "k",
    "attention.v_proj": "v",
    "attention.output.dense": "attn.proj",
    "attention.o_proj": "attn.proj",
    f"attention.attention.{TABLE}": "attn.relative.relative_position_bias_table",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "layer_scale1.lambda1": "ls1.gamma",
    "layer_scale2.lambda1": "ls2.gamma",
    "lambda_1": "ls1.gamma",
    "lambda_2": "ls2.gamma",
    "mlp.weights_in": "mlp.w12",
    "mlp.weights_out": "mlp.w3",
}
_PLAIN_MLP = {"mlp.up_proj": "mlp.fc1", "mlp.down_proj": "mlp.fc2"}
_GATED_MLP = {"mlp.gate_proj": "mlp.w1", "mlp.up_proj": "mlp.w2", "mlp.down_proj": "mlp.w3"}


@FORMATS.register
class Transformers(Format):
    """A ViT, DINOv2 (with registers or not), DINOv3 or BEiT of transformers.

    Features are the normalised class token, or the pooled mean of BEiT models with a pooler. Heads, the
    epsilon and the normalisation of the input are those of `config.json` and `preprocessor_config.json`
    next to the file; without these, those of the released models.
    """

    source: ClassVar[str] = "huggingface/transformers, src/transformers/models"

    class Config(NetworkSettings):
        """Settings of transformers' format."""

        name: Literal["transformers"] = "transformers"

    def recognises(self, file: ForeignFile) -> bool:
        """Returns whether the file has the patch embedding and layers of these models."""
        start = _start(file.main())
        return start is not None and any(_LAYER.match(n.removeprefix(start)) for n in file.main())

    def read(self, file: ForeignFile) -> Imported:
        """Returns the backbone.

        Raises:
            UserError: there is none, or it has another activation than released models.
        """
        own, aside = _named(file)
        known, kind = file.beside.get("config.json", {}), _kind(file.main())
        stated = known.get("num_attention_heads")
        heads = self.config.heads or (stated if isinstance(stated, int) and stated > 0 else None)
        settings: dict[str, Any] = {"eps": known.get("layer_norm_eps") or EPS[kind]}
        if kind == "relative" and "pooler.layernorm.weight" in own:
            settings["pooling"] = "mean"
            for part in ("weight", "bias"):
                own[f"norm.{part}"] = own.pop(f"pooler.layernorm.{part}")
        if kind == "rotary":
            own = with_periods(own, heads or usual_heads(own["cls_token"].shape[-1], file.what))
            settings |= {"positions": "rotary", "image_size": known.get("image_size", 224)}
        elif kind == "relative":
            shared = any(name.startswith("rel_pos_bias.") for name in own)
            settings["positions"] = "shared_relative" if shared else "relative"
        elif "register_tokens" not in own:
            settings["resampling"] = "sized"
        _check_activation(file, gated="blocks.0.mlp.w1.weight" in own)
        network = read_released(own, what=file.what, heads=heads, **settings)
        return Imported(
            network.settings,
            network.weights,
            aside,
            method=f"transformers {known.get('model_type', kind)}",
            image_size=_image_size(file, network.settings.get("image_size", 224)),
            normalisation=_normalisation(file, kind),
        )


def _start(names: StateDict) -> str | None:
    """Returns the prefix of the model, such as `vit.`; None without its patch embedding."""
    found = [match[1] for name in names if (match := _START.fullmatch(name))]
    return found[0] if len(found) == 1 else None


def _named(file: ForeignFile) -> tuple[StateDict, dict[str, StateDict]]:
    """Returns the weights with DINOv2's names, and those that are not read."""
    start = _start(file.main())
    if start is None or f"{start}embeddings.cls_token" not in file.main():
        raise UserError(
            f"'{file.what}' has no vision transformer of transformers with a class token; "
            "pass another --format"
        )
    gated = any(".gate_proj." in name for name in file.main())
    own: StateDict = {}
    aside: StateDict = {}
    for name, tensor in file.main().items():
        inner = name.removeprefix(start)
        pooled = inner.startswith("pooler.layernorm.") and _kind(file.main()) == "relative"
        unused = inner.startswith(("pooler.", "embeddings.mask_token", *WORDS)) and not pooled
        if unused or (start and not name.startswith(start)):
            aside[inner] = tensor
        elif not inner.endswith(("relative_position_index", "inv_freq")):
            own[_renamed(inner, _GATED_MLP if gated else _PLAIN_MLP)] = tensor
    if "register_tokens" in own and not own["register_tokens"].shape[1]:
        del own["register_tokens"]
    return fused(own, ("q", "k", "v")), grouped(aside, {**WORDS, "embeddings": "the mask token"})


def _kind(names: StateDict) -> Kind:
    """Returns the kind of network that weights are of, from their names in the file."""
    if any(name.endswith(("lambda_1", TABLE)) for name in names):
        return "relative"
    if not any(name.endswith("embeddings.position_embeddings") for name in names):
        return "rotary"
    return "scaled" if any(name.endswith(".lambda1") for name in names) else "plain"


def _renamed(name: str, mlp: dict[str, str]) -> str:
    layer = _LAYER.fullmatch(name)
    stem, _, kind = (layer[2] if layer else name).rpartition(".")
    names = {**_PARTS, **mlp} if layer else _NAMES
    whole = f"{stem}.{kind}".lstrip(".")
    new = names.get(whole) or (f"{names[stem]}.{kind}" if stem in names else whole)
    return f"blocks.{layer[1]}.{new}" if layer else new


def _check_activation(file: ForeignFile, *, gated: bool) -> None:
    """Raises `UserError` if `config.json` names another activation than that of released models."""
    stated = file.beside.get("config.json", {}).get("hidden_act")
    wanted = "silu" if gated else "gelu"
    if stated not in (None, wanted):
        raise UserError(
            f"'{file.what}' has the activation '{stated}'; only {wanted} is supported in this network"
        )


def _image_size(file: ForeignFile, size: int) -> int:
    """Returns the size of images in `preprocessor_config.json`, or of positions."""
    known = file.beside.get("preprocessor_config.json", {})
    stated = known.get("crop_size") or known.get("size")
    stated = stated.get("height") if isinstance(stated, dict) else stated
    return stated if isinstance(stated, int) and stated > 0 else size


def _triple(values: Any) -> tuple[float, ...] | None:
    """Returns a list of three numbers in a JSON file; None for anything else."""
    if not isinstance(values, list) or [type(v) in (int, float) for v in values] != [True] * 3:
        return None
    return tuple(values)


def _normalisation(file: ForeignFile, kind: Kind) -> tuple[tuple[float, ...], tuple[float, ...]]:
    known = file.beside.get("preprocessor_config.json", {})
    mean, std = (_triple(known.get(name)) for name in ("image_mean", "image_std"))
    if mean and std:
        return mean, std
    return HALF if kind in ("plain", "relative") else (IMAGENET_MEAN, IMAGENET_STD)
