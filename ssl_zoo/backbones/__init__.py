"""Backbones: ResNets of torchvision, wide and small ones, timm's models, and raw pixels."""

from ssl_zoo.backbones import pixels, resnet, timm, tiny

__all__ = ["pixels", "resnet", "timm", "tiny"]
