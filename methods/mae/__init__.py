"""MAE: predicts the pixels of dropped patches from the visible ones."""

from ssl_zoo.methods.mae.method import MAE
from ssl_zoo.methods.mae.official import Official

__all__ = ["MAE", "Official"]
