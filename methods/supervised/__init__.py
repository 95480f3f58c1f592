"""Supervised training: an upper baseline."""

from ssl_zoo.methods.supervised.method import Supervised

__all__ = ["Supervised"]
