"""DINO: a student that predicts what its own momentum teacher says of other views."""

from ssl_zoo.methods.dino.method import DINO
from ssl_zoo.methods.dino.official import Official

__all__ = ["DINO", "Official"]
