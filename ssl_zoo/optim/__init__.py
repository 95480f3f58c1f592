"""Optimizers by name. The training loop sets `lr` in each group; a group may define `lr_scale`."""

from ssl_zoo.optim.larc import LARC
from ssl_zoo.optim.lars import LARS
from ssl_zoo.optim.plain import SGD, AdamW

__all__ = ["LARC", "LARS", "SGD", "AdamW"]
