"""Training with labels: the upper baseline in the same loop."""

from ssl_zoo.methods.supervised.method import Supervised

__all__ = ["Supervised"]
