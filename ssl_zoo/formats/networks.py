"""Identifies the network of a state dict from its names and shapes."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from ssl_zoo.config import NamedConfig
from ssl_zoo.errors import UserError
from ssl_zoo.formats.base import ForeignFile, Imported, StateDict, below, first_names, grouped

DEPTHS: dict[tuple[str, tuple[int, ...]], str] = {
    ("basic", (2, 2, 2, 2)): "resnet18",
    ("basic", (3, 4, 6, 3)): "resnet34",
    ("bottleneck", (3, 4, 6, 3)): "resnet50",
    ("bottleneck", (3, 4, 23, 3)): "resnet101",
    ("bottleneck", (3, 8, 36, 3)): "resnet152",
}
WIDTHS = (1, 2, 4, 5)
INNER = {
    ("resnet50", 128, 128): "wide_resnet50_2",
    ("resnet101", 128, 128): "wide_resnet101_2",
    ("resnet50", 128, 4): "resnext50_32x4d",
    ("resnet101", 256, 8): "resnext101_32x8d",
    ("resnet101", 256, 4): "resnext101_64x4d",
}
"""torchvision networks that differ from a ResNet in the channels of the first 3x3 convolution."""
CLASSIFIERS = ("fc", "head", "heads")
"""First name parts of the layers after the features, in torchvision and timm."""
OTHERWISE = "build it in Python, load the weights, and score it: ssl_zoo.evaluate(MODEL, ...)"
"""What to do with a network that no backbone is like."""
HEAD_DIM = 64
"""Width of an attention head in the vision transformers of the original paper (arXiv:2010.11929)."""
HUGE = (1280, 16)
"""Width and attention heads of the largest, which differs (Table 1)."""

NUMBERED = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
"""torchvision's name for each index of `nn.Sequential(*list(resnet.children())[:-1])`."""

_TRUNK = "trunk."
_STAGES = {"layer1", "layer2", "layer3", "layer4"}
_TIMM_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)")
_TORCHVISION_BLOCK = re.compile(r"encoder\.layers\.encoder_layer_(\d+)\.(.+)")
_TOP = {
    "cls_token": "class_token",
    "pos_embed": "encoder.pos_embedding",
    "patch_embed.proj.weight": "conv_proj.weight",
    "patch_embed.proj.bias": "conv_proj.bias",
    "norm.weight": "encoder.ln.weight",
    "norm.bias": "encoder.ln.bias",
}
_BLOCK = {
    "norm1.weight": "ln_1.weight",
    "norm1.bias": "ln_1.bias",
    "attn.qkv.weight": "self_attention.in_proj_weight",
    "attn.qkv.bias": "self_attention.in_proj_bias",
    "attn.proj.weight": "self_attention.out_proj.weight",
    "attn.proj.bias": "self_attention.out_proj.bias",
    "norm2.weight": "ln_2.weight",
    "norm2.bias": "ln_2.bias",
    "mlp.fc1.weight": "mlp.0.weight",
    "mlp.fc1.bias": "mlp.0.bias",
    "mlp.fc2.weight": "mlp.3.weight",
    "mlp.fc2.bias": "mlp.3.bias",
}


class NetworkSettings(NamedConfig):
    """Settings of formats with a ResNet or a vision transformer."""

    heads: int | None = Field(default=None, ge=1, le=128)
    """Number of attention heads of a vision transformer; by default one per 64 of its width."""


@dataclass(frozen=True)
class Network:
    """An identified backbone: its settings, its weights, and its classifier."""

    settings: dict[str, Any]
    weights: StateDict
    classifier: StateDict = field(default_factory=dict)


def is_network(names: Iterable[str]) -> bool:
    """Returns whether all names are of a ResNet or vision transformer, with or without classifier."""
    known = set(names)
    if _is_resnet(known):
        parts = {"conv1", "bn1", *_STAGES}
        rest = {name for name in known if name.split(".")[0] not in parts}
        return rest <= {"fc.weight", "fc.bias"}
    return is_timm_transformer(known) or is_torchvision_transformer(known)


def split_network(weights: Mapping[str, Tensor]) -> tuple[StateDict, StateDict]:
    """Returns the weights of a ResNet with its classifier, and those of other parts beside it.

    A network that is no ResNet is returned whole, since other parts may change its features.
    """
    named = with_names(weights)
    if not _is_resnet(named):
        return named, {}
    own = {
        name: tensor
        for name, tensor in named.items()
        if name.split(".")[0] in {"conv1", "bn1", *_STAGES} or name in ("fc.weight", "fc.bias")
    }
    return own, {name: tensor for name, tensor in named.items() if name not in own}


def with_names(weights: Mapping[str, Tensor]) -> StateDict:
    """Returns a numbered ResNet with torchvision's names; others are unchanged."""
    if not {"0.weight", "7.0.conv1.weight"} <= weights.keys():
        return dict(weights)
    found = {}
    for name, tensor in weights.items():
        first, _, rest = name.partition(".")
        found[f"{NUMBERED[first]}.{rest}" if first in NUMBERED else name] = tensor
    return found


def _is_resnet(names: Iterable[str]) -> bool:
    """Returns whether all stages of a ResNet exist; missing weights are reported on loading."""
    return {name.split(".")[0] for name in names} >= _STAGES


def is_torchvision_transformer(names: Iterable[str]) -> bool:
    """Returns whether all names are of torchvision's vision transformer."""
    known = set(names)
    parts = {name.split(".")[0] for name in known}
    return "class_token" in known and parts <= {"class_token", "conv_proj", "encoder", "heads"}


def is_timm_transformer(names: Iterable[str]) -> bool:
    """Returns whether all names are of timm's plain vision transformer."""
    known = set(names)
    own = {name for name in known if name.split(".")[0] not in CLASSIFIERS}
    plain = not any(name.endswith(".ls1.gamma") for name in own)  # of DINOv2
    return (
        plain
        and {"cls_token", "pos_embed"} <= known
        and all(name in _TOP or _TIMM_BLOCK.fullmatch(name) for name in own)
    )


def read_network(
    weights: Mapping[str, Tensor], *, what: str, heads: int | None = None, cifar: str = "cifar"
) -> Network:
    """Returns the backbone of a state dict.

    Args:
        weights: in torchvision's or timm's names, or a numbered ResNet.
        what: names the file in errors.
        heads: number of attention heads of a vision transformer, which its shapes do not show; by
            default as in the original paper: one per 64 of the width, except in the largest.
        cifar: stem to use for a 3x3 first convolution.

    Raises:
        UserError: the network is not supported.
    """
    weights = with_names(weights)
    classifier = {name: t for name, t in weights.items() if name.split(".")[0] in CLASSIFIERS}
    own = {name: t for name, t in weights.items() if name not in classifier}
    if _is_resnet(own):
        settings = _resnet_settings(own, what, cifar)
        own = _with_counters(own)
    elif "cls_token" in own or "class_token" in own:
        own = from_timm(own) if "cls_token" in own else own
        settings = _transformer_settings(own, what, heads)
    else:
        raise UserError(
            f"the architecture of the network in '{what}' is not supported: it is neither a ResNet nor a "
            f"plain vision transformer; its names start with {first_names(own)}; {OTHERWISE}"
        )
    return Network(settings, {_TRUNK + name: t for name, t in own.items()}, classifier)


def read_below(
    prefix: str,
    file: ForeignFile,
    words: Mapping[str, str],
    *,
    weights: StateDict | None = None,
    heads: int | None = None,
    **facts: Any,
) -> Imported:
    """Returns the backbone whose weights are under a prefix.

    Args:
        prefix: such as `backbone.`; may be empty.
        words: descriptions of other weights, keyed by the first part of their names.
        weights: weights to search; by default the file's main ones.
        heads: as for `read_network`.
        facts: further fields of the result.

    Raises:
        UserError: there is no network, or it is not supported.
    """
    own, others = below(file, file.main() if weights is None else weights, prefix)
    network = read_network(own, what=file.what, heads=heads)
    return to_imported(network, grouped(others, words), **facts)


def to_imported(network: Network, others: Mapping[str, StateDict], **facts: Any) -> Imported:
    """Returns a network and the ignored weights, at the network's image size."""
    small = network.settings.get("stem", "imagenet") != "imagenet"
    size = network.settings.get("image_size") or (32 if small else 224)
    aside = {"the classifier": network.classifier} if network.classifier else {}
    # Small images, and those of other than three channels, are normalised with the statistics of their
    # data set, which files do not store.
    other = "in_channels" in network.settings
    facts = {"image_size": size, **({"normalisation": None} if small else {}), **facts}
    facts |= {"normalisation": None} if other else {}
    return Imported(network.settings, network.weights, {**aside, **others}, **facts)


def from_timm(weights: Mapping[str, Tensor]) -> StateDict:
    """Returns the weights of a vision transformer with torchvision's names; others are unchanged."""
    found = {}
    for name, tensor in weights.items():
        block = _TIMM_BLOCK.fullmatch(name)
        if block and block[2] in _BLOCK:
            name = f"encoder.layers.encoder_layer_{block[1]}.{_BLOCK[block[2]]}"
        found[_TOP.get(name, name)] = tensor
    return found


def to_timm(weights: Mapping[str, Tensor]) -> StateDict:
    """Returns the weights of a vision transformer with timm's names."""
    top, inner = ({new: old for old, new in names.items()} for names in (_TOP, _BLOCK))
    found = {}
    for name, tensor in weights.items():
        block = _TORCHVISION_BLOCK.fullmatch(name)
        if block:
            name = f"blocks.{block[1]}.{inner[block[2]]}"
        found[top.get(name, name)] = tensor
    return found


def _resnet_settings(weights: StateDict, what: str, cifar: str) -> dict[str, Any]:
    for needed in ("conv1.weight", "layer1.0.conv2.weight"):
        if needed not in weights:
            raise UserError(f"the ResNet in '{what}' lacks {needed}, which determines its width")
    kind = "bottleneck" if "layer1.0.conv3.weight" in weights else "basic"
    depths = tuple(_count(weights, rf"layer{stage}\.(\d+)\..+") for stage in range(1, 5))
    stem = weights["conv1.weight"].shape
    width, kernel = stem[0] // 64, stem[-1]
    name = DEPTHS.get((kind, depths))
    if name is None or stem[0] % 64 or width not in WIDTHS or kernel not in (3, 7):
        raise UserError(
            f"the ResNet in '{what}' has {'-'.join(map(str, depths))} {kind} blocks, {stem[0]} "
            f"channels and a first kernel of {kernel}; no backbone has this architecture"
        )
    outputs, inputs = weights["layer1.0.conv2.weight"].shape[:2]
    if (name, outputs, inputs) in INNER and width == 1 and kernel == 7:
        return {"name": "torchvision", "model": INNER[name, outputs, inputs], **_channels(stem)}
    if width > 1:
        name = f"{name}_w{width}"
    return {"name": name, "stem": "imagenet" if kernel == 7 else cifar, **_channels(stem)}


def _with_counters(weights: StateDict) -> StateDict:
    """Adds missing step counters of batch normalisation, which do not affect features."""
    counters = {
        name.replace("running_mean", "num_batches_tracked"): torch.tensor(0)
        for name in weights
        if name.endswith("running_mean")
    }
    return {**counters, **weights}


def _transformer_settings(weights: StateDict, what: str, heads: int | None) -> dict[str, Any]:
    depth = _count(weights, r"encoder\.layers\.encoder_layer_(\d+)\.ln_1\.weight")
    needed = ("conv_proj.weight", "encoder.pos_embedding")
    hidden = weights.get("encoder.layers.encoder_layer_0.mlp.0.weight")
    if hidden is None or any(name not in weights for name in needed):
        raise UserError(
            f"the vision transformer in '{what}' is not a plain vision transformer; its names start with "
            f"{first_names(weights)}"
        )
    width, patch = weights["conv_proj.weight"].shape[0], weights["conv_proj.weight"].shape[-1]
    n_patches = weights["encoder.pos_embedding"].shape[1] - 1
    side = math.isqrt(n_patches)
    if side**2 != n_patches:
        raise UserError(
            f"the positions in '{what}' are of {n_patches} patches, which is not a square number"
        )
    heads = heads or dict([HUGE]).get(width, width // HEAD_DIM)
    if not heads or width % heads:
        raise UserError(
            f"'{what}' does not say how many attention heads its vision transformer of width "
            f"{width} has; set it: --format '{{name: FORMAT, heads: N}}'"
        )
    return {
        "name": "vit",
        "image_size": side * patch,
        "patch_size": patch,
        "width": width,
        "depth": depth,
        "heads": heads,
        "mlp_ratio": hidden.shape[0] / width,
        **_channels(weights["conv_proj.weight"].shape),
    }


def _channels(first: Sequence[int]) -> dict[str, int]:
    """Returns the setting for the channels of a first convolution of this shape, if not three."""
    return {} if first[1] == 3 else {"in_channels": first[1]}


def _count(weights: Iterable[str], pattern: str) -> int:
    """Returns the number of blocks whose names match a pattern with their index as a group."""
    found = [re.fullmatch(pattern, name) for name in weights]
    return len({match[1] for match in found if match})
