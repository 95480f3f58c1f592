"""Formats: readers for the checkpoints of other projects."""

from ssl_zoo.formats import (
    beit,
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
    "beit",
    "lightly",
    "open_clip",
    "prefixed",
    "solo_learn",
    "timm",
    "torchvision",
    "transformers",
    "vissl",
]
