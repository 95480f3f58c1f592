"""Backbones: ResNets and vision transformers, small ones, torchvision's and timm's models, raw pixels."""

from ssl_zoo.backbones import pixels, resnet, timm, tiny, torchvision_models, vit

__all__ = ["pixels", "resnet", "timm", "tiny", "torchvision_models", "vit"]
