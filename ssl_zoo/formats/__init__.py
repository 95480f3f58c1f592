"""Formats: readers for the checkpoints of other projects."""

from ssl_zoo.formats import lightly, prefixed, solo_learn, timm, torchvision, vissl

__all__ = ["lightly", "prefixed", "solo_learn", "timm", "torchvision", "vissl"]
