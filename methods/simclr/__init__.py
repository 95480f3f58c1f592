"""SimCLR: contrasting views of one image with those of others."""

from ssl_zoo.methods.simclr.method import SimCLR

__all__ = ["SimCLR"]
