"""Importers: checkpoints of other projects, by the format they are in."""

from ssl_zoo.formats import lightly, prefixed, solo_learn, timm, torchvision, vissl

__all__ = ["lightly", "prefixed", "solo_learn", "timm", "torchvision", "vissl"]
