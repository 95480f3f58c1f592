"""VICReg: embeddings agree between views, vary over images, and have decorrelated coordinates."""

from ssl_zoo.methods.vicreg.loss import VICRegLoss
from ssl_zoo.methods.vicreg.method import VICReg
from ssl_zoo.methods.vicreg.official import Official

__all__ = ["Official", "VICReg", "VICRegLoss"]
