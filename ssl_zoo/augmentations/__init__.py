"""Augmentations: parameters are drawn apart from being applied, to one image or to a whole batch."""

from ssl_zoo.augmentations.multicrop import MultiCrop

__all__ = ["MultiCrop"]
