"""MoCo v3: contrasts predictions with a momentum teacher's keys of the same batch."""

from ssl_zoo.methods.moco_v3.method import MoCoV3
from ssl_zoo.methods.moco_v3.official import Official

__all__ = ["MoCoV3", "Official"]
