"""Backbones: ResNets and vision transformers, small ones, torchvision's and timm's models, raw pixels,
tokenizers."""

from ssl_zoo.backbones import (
    conv_tokenizer,
    pixels,
    released_vit,
    resnet,
    timm,
    tiny,
    torchvision_models,
    vit,
)

__all__ = [
    "conv_tokenizer",
    "pixels",
    "released_vit",
    "resnet",
    "timm",
    "tiny",
    "torchvision_models",
    "vit",
]
