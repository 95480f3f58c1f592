"""SimCLR: contrasts views of an image with those of other images."""

from ssl_zoo.methods.simclr.method import SimCLR
from ssl_zoo.methods.simclr.official import Official

__all__ = ["Official", "SimCLR"]
