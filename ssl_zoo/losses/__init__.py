"""Losses and the codes they need; none knows a trainer.

Pure functions stay in their modules, whose names they bear: exported here they would hide those.
"""

from ssl_zoo.losses.nt_xent import NTXentLoss, NTXentSettings
from ssl_zoo.losses.swapped_prediction import SwappedPredictionLoss, SwapSettings

__all__ = ["NTXentLoss", "NTXentSettings", "SwapSettings", "SwappedPredictionLoss"]
