"""MoCo v2: contrasts views with a queue of keys from a momentum teacher."""

from ssl_zoo.methods.moco_v2.method import MoCoV2
from ssl_zoo.methods.moco_v2.official import Official

__all__ = ["MoCoV2", "Official"]
