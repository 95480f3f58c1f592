"""MAE: predicting the pixels of dropped patches from the others."""

from ssl_zoo.methods.mae.method import MAE

__all__ = ["MAE"]
