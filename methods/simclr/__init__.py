"""SimCLR: contrasting views of one image with those of others."""

from ssl_zoo.methods.simclr.method import SimCLR
from ssl_zoo.methods.simclr.official import Official

__all__ = ["Official", "SimCLR"]
