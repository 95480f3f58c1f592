"""Augmentations: drawing parameters is separate from applying them, to an image or a whole batch."""

from ssl_zoo.augmentations.multicrop import MultiCrop

__all__ = ["MultiCrop"]
