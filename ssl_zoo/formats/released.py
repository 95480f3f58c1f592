"""Reads the state dicts of released vision transformers, once renamed as in DINOv2's files."""

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ssl_zoo.backbones.released_blocks import rotary_periods
from ssl_zoo.errors import UserError
from ssl_zoo.formats.base import StateDict, first_names
from ssl_zoo.formats.networks import HEAD_DIM, Network

OTHER_HEADS = {1280: 16, 1408: 16, 1664: 16}
"""Attention heads of widths that do not have one per 64: ViT-H and -g (arXiv:2106.04560), and -bigG."""
LARGEST = 4096
"""Width of DINOv3's 7B network, with heads of 128 (arXiv:2508.10104, Table 2)."""
_CHUNKED = re.compile(r"blocks\.\d+\.(\d+\..+)")
_BLOCK = re.compile(r"blocks\.(\d+)\..+")


def read_released(
    weights: Mapping[str, Tensor], *, what: str, heads: int | None = None, **known: Any
) -> Network:
    """Returns the backbone of a state dict with DINOv2's names.

    Args:
        weights: `cls_token`, `patch_embed.proj`, `blocks.I` or `blocks.CHUNK.I`, `norm`, and what the
            network has of `pos_embed`, `register_tokens`, `periods`, biases of attention, `proj`.
        what: names the file in errors.
        heads: number of attention heads; by default as its authors' networks of this width have.
        known: further settings of the backbone `released_vit`.

    Raises:
        UserError: weights that determine the architecture are missing, or the number of heads is unknown.
    """
    own = packed(unchunked(weights))
    needed = ("cls_token", "patch_embed.proj.weight", "blocks.0.norm1.weight", "norm.weight")
    missing = [name for name in needed if name not in own]
    if missing or not {"blocks.0.mlp.fc1.weight", "blocks.0.mlp.w3.weight"} & own.keys():
        raise UserError(
            f"the vision transformer in '{what}' lacks {first_names(missing or ['its MLPs'])}; "
            f"its names start with {first_names(weights)}"
        )
    first, gated = own["patch_embed.proj.weight"], "blocks.0.mlp.w3.weight" in own
    width, patch = first.shape[0], first.shape[-1]
    registers = own.get("register_tokens")
    settings = {
        "name": "released_vit",
        "patch_size": patch,
        "width": width,
        "depth": len({match[1] for name in own if (match := _BLOCK.fullmatch(name))}),
        "heads": heads or usual_heads(width, what),
        "hidden": own["blocks.0.mlp.w3.weight"].shape[1]
        if gated
        else own["blocks.0.mlp.fc1.weight"].shape[0],
        "activation": "swiglu" if gated else "gelu",
        "registers": 0 if registers is None else registers.shape[1],
        "layer_scale": "blocks.0.ls1.gamma" in own,
        **({"in_channels": first.shape[1]} if first.shape[1] != 3 else {}),
    }
    side = _side(own, what)
    settings |= {"image_size": side * patch} if side else {}
    return Network({**settings, **known}, own)


def usual_heads(width: int, what: str) -> int:
    """Returns the attention heads of released networks of a width.

    Raises:
        UserError: there is none of this width.
    """
    of_one = 128 if width == LARGEST else HEAD_DIM
    heads = OTHER_HEADS.get(width, 0 if width % of_one else width // of_one)
    if not heads:
        raise UserError(
            f"'{what}' does not say how many attention heads its vision transformer of width "
            f"{width} has; set it: --format '{{name: FORMAT, heads: N}}'"
        )
    return heads


def unchunked(weights: Mapping[str, Tensor]) -> StateDict:
    """Returns weights with `blocks.I` for `blocks.CHUNK.I` of training with FSDP; I counts all blocks."""
    return {_CHUNKED.sub(r"blocks.\1", name): tensor for name, tensor in weights.items()}


def packed(weights: Mapping[str, Tensor]) -> StateDict:
    """Returns weights with SwiGLU as `w12` and `w3`, whichever way a file names its three parts.

    DINOv3 has `w1` and `w2`; timm has `fc1`, twice as long as `fc2` is wide, and `fc2`.
    """
    found = dict(weights)
    for name in weights:
        stem, _, rest = name.rpartition(".mlp.w1.")
        if stem:
            both = [found.pop(f"{stem}.mlp.{part}.{rest}") for part in ("w1", "w2")]
            found[f"{stem}.mlp.w12.{rest}"] = torch.cat(both)
    first, last = (found.get(f"blocks.0.mlp.{part}.weight") for part in ("fc1", "fc2"))
    if first is not None and last is not None and first.shape[0] == 2 * last.shape[1]:
        names = ((".mlp.fc1.", ".mlp.w12."), (".mlp.fc2.", ".mlp.w3."))
        for old, new in names:
            found = {name.replace(old, new): tensor for name, tensor in found.items()}
    return found


def fused(weights: Mapping[str, Tensor], parts: tuple[str, str, str]) -> StateDict:
    """Returns weights with `attn.qkv` for three linear layers; a bias that is missing is zero.

    Args:
        weights: the weights.
        parts: names of queries, keys and values after `blocks.I.`.
    """
    found = dict(weights)
    for name in weights:
        if not name.endswith(f".{parts[0]}.weight"):
            continue
        stem = name.removesuffix(f".{parts[0]}.weight")
        kinds = [found.pop(f"{stem}.{part}.weight") for part in parts]
        biases = [found.pop(f"{stem}.{part}.bias", None) for part in parts]
        zero = torch.zeros_like(kinds[0][:, 0])
        found[f"{stem}.attn.qkv.weight"] = torch.cat(kinds)
        found[f"{stem}.attn.qkv.bias"] = torch.cat([zero if b is None else b for b in biases])
    return found


def with_periods(weights: Mapping[str, Tensor], heads: int) -> StateDict:
    """Returns the weights of a network with rotary positions, with DINOv3's periods if it has none."""
    width = weights["cls_token"].shape[-1]
    return {"periods": rotary_periods(width // heads), **weights}


def _side(weights: StateDict, what: str) -> int | None:
    """Returns the patches in a row of the images that positions are for; None if any may come."""
    positions = weights.get("pos_embed")
    tables = [t for name, t in weights.items() if name.endswith("relative_position_bias_table")]
    if positions is not None:
        n, side = positions.shape[1] - 1, math.isqrt(positions.shape[1] - 1)
        if side**2 == n:
            return side
    elif tables:
        n, across = len(tables[0]) - 3, math.isqrt(max(0, len(tables[0]) - 3))
        if across**2 == n:
            return (across + 1) // 2
    else:
        return None
    raise UserError(f"the positions in '{what}' are for {n} places, which is not a square number")
