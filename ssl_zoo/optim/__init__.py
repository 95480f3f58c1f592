"""Optimizers by name. Whoever trains sets `lr` in each group; a group may hold `lr_scale`."""

from ssl_zoo.optim.larc import LARC
from ssl_zoo.optim.lars import LARS
from ssl_zoo.optim.plain import SGD, AdamW

__all__ = ["LARC", "LARS", "SGD", "AdamW"]
