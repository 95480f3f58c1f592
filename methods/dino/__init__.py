"""DINO: a student predicts its momentum teacher's output for other views."""

from ssl_zoo.methods.dino.method import DINO
from ssl_zoo.methods.dino.official import Official

__all__ = ["DINO", "Official"]
