"""Formats: readers for the checkpoints of other projects."""

from ssl_zoo.formats import (
    lightly,
    open_clip,
    prefixed,
    solo_learn,
    timm,
    torchvision,
    transformers,
    vissl,
)

__all__ = [
    "lightly",
    "open_clip",
    "prefixed",
    "solo_learn",
    "timm",
    "torchvision",
    "transformers",
    "vissl",
]
