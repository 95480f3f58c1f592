"""Barlow Twins: coordinates of embeddings agree between views and are decorrelated."""

from ssl_zoo.methods.barlow_twins.loss import BarlowTwinsLoss
from ssl_zoo.methods.barlow_twins.method import BarlowTwins
from ssl_zoo.methods.barlow_twins.official import Official

__all__ = ["BarlowTwins", "BarlowTwinsLoss", "Official"]
