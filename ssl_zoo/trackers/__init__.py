"""Programs that draw the curves of runs, each behind its extra."""

from ssl_zoo.trackers.mlflow import MLflow
from ssl_zoo.trackers.tensorboard import TensorBoard
from ssl_zoo.trackers.trackio import Trackio
from ssl_zoo.trackers.wandb import WeightsAndBiases

__all__ = ["MLflow", "TensorBoard", "Trackio", "WeightsAndBiases"]
