"""The image itself: a lower bound."""

from ssl_zoo.methods.raw_pixels.method import RawPixels

__all__ = ["RawPixels"]
