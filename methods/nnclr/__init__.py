"""NNCLR: contrasts a view with the nearest neighbour of another view of its image."""

from ssl_zoo.methods.nnclr.method import NNCLR

__all__ = ["NNCLR"]
