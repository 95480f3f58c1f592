"""A method, a backbone and an augmentation from outside; importing this registers them."""

from . import augmentation, backbone, method

__all__ = ["augmentation", "backbone", "method"]
