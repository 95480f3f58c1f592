"""MoCo v3: contrasting predictions with the keys that a momentum teacher has for the same batch."""

from ssl_zoo.methods.moco_v3.method import MoCoV3
from ssl_zoo.methods.moco_v3.official import Official

__all__ = ["MoCoV3", "Official"]
