"""Backbones: ResNets and vision transformers, small ones, torchvision's and timm's models, raw pixels."""

from ssl_zoo.backbones import pixels, released_vit, resnet, timm, tiny, torchvision_models, vit

__all__ = ["pixels", "released_vit", "resnet", "timm", "tiny", "torchvision_models", "vit"]
