"""Losses and the codes that they need; none depends on the trainer.

Pure functions are not exported here, as they would hide the modules of the same name.
"""

from ssl_zoo.losses.cluster_prediction import ClusterPredictionLoss, ClusterPredictionSettings
from ssl_zoo.losses.info_nce import InfoNCELoss, InfoNCESettings
from ssl_zoo.losses.masked_pixels import MaskedPixelLoss, MaskedPixelSettings
from ssl_zoo.losses.nt_xent import NTXentLoss, NTXentSettings
from ssl_zoo.losses.swapped_prediction import SwappedPredictionLoss, SwapSettings

__all__ = [
    "ClusterPredictionLoss",
    "ClusterPredictionSettings",
    "InfoNCELoss",
    "InfoNCESettings",
    "MaskedPixelLoss",
    "MaskedPixelSettings",
    "NTXentLoss",
    "NTXentSettings",
    "SwapSettings",
    "SwappedPredictionLoss",
]
