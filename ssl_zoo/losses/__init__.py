"""Losses and the codes they need; none knows a trainer."""

from ssl_zoo.losses.nt_xent import NTXentLoss, NTXentSettings, nt_xent
from ssl_zoo.losses.sinkhorn import sinkhorn
from ssl_zoo.losses.swapped_prediction import (
    SwappedPredictionLoss,
    SwapSettings,
    swapped_prediction,
)

__all__ = [
    "NTXentLoss",
    "NTXentSettings",
    "SwapSettings",
    "SwappedPredictionLoss",
    "nt_xent",
    "sinkhorn",
    "swapped_prediction",
]
