"""Augmentations: parameters are drawn apart from being applied, to an image or a whole batch."""

from ssl_zoo.augmentations.multicrop import MultiCrop

__all__ = ["MultiCrop"]
