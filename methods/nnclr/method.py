"""NNCLR (Dwibedi et al., 2021, "With a little help from my friends: nearest-neighbor contrastive
learning of visual representations", arXiv:2104.14548), after its equation 4 and pseudo-code."""

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from ssl_zoo import distributed
from ssl_zoo.backbones.base import Backbone
from ssl_zoo.config import NamedConfig, RunSettings, default
from ssl_zoo.heads.base import HEADS
from ssl_zoo.heads.mlp import l2_normalize
from ssl_zoo.heads.predictor import build_predictor
from ssl_zoo.losses.info_nce import InfoNCELoss, InfoNCESettings, positive_cosine
from ssl_zoo.memory import SharedQueue, check_fits_data, check_whole_batches
from ssl_zoo.memory.counts import queue_of
from ssl_zoo.method import (
    METHODS,
    Alarm,
    Batch,
    Method,
    Metrics,
    RunInfo,
    StepOutput,
    encode,
    over_chance,
)
from ssl_zoo.schedule import Progress

_HEAD: dict[str, Any] = {
    "name": "mlp",
    "hidden_dims": [2048, 2048],
    "output_dim": 256,
    "hidden_bias": False,
    "output_batch_norm": True,
}
_PREDICTOR: dict[str, Any] = {
    "name": "mlp",
    "hidden_dims": [4096],
    "output_dim": 256,
    "hidden_bias": False,
}


@METHODS.register
class NNCLR(Method):
    """Predicts the nearest neighbour, in a support set, of another view of the same image."""

    paper: ClassVar[str] = "Dwibedi et al., ICCV 2021, arXiv:2104.14548"
    alarms: ClassVar[tuple[Alarm, ...]] = (
        Alarm.at_chance(
            "lower optimizer.lr, lengthen schedule.warmup, or use a shorter support set "
            "(method.queue_length)"
        ),
        Alarm(
            metric="distinct_neighbors",
            below=0.1,
            advice="nine out of ten images share their neighbour with another: use a longer support set "
            "(method.queue_length), or lower optimizer.lr",
        ),
    )

    class Config(InfoNCESettings, NamedConfig):
        """Settings of NNCLR; defaults are the paper's for ImageNet."""

        name: Literal["nnclr"] = "nnclr"
        temperature: float = Field(default=0.1, ge=0.01, le=10)
        """Temperature; divides the cosine similarities."""
        head: Annotated[NamedConfig, HEADS] = default(_HEAD)
        """Projection head between features and embeddings."""
        predictor: Annotated[NamedConfig, HEADS] = default(_PREDICTOR)
        """Head that maps embeddings to predictions of neighbours."""
        queue_length: int = Field(default=98304, ge=2)
        """Size of the support set: number of embeddings of earlier batches, over all processes."""

        def check(self, run: RunSettings) -> None:
            """Raises `ValueError` if the queue does not consist of whole batches."""
            check_whole_batches(self.queue_length, run.global_batch_size)

    @classmethod
    def fitted(cls, config: Any, run: RunInfo) -> dict[str, tuple[Any, str]]:
        """Returns the length of the queue for the number of images; see `Method.fitted`."""
        return {"queue_length": queue_of(run, part=2)}

    def __init__(self, config: Config, *, backbone: Backbone, run: RunInfo) -> None:
        super().__init__(config, backbone=backbone, run=run)
        check_fits_data(config.queue_length, run.n_samples, run.global_batch_size)
        self.head = HEADS.build(config.head, input_dim=backbone.feature_dim)
        self.predictor = build_predictor(config.predictor, self.head)
        self.queue = SharedQueue(config.queue_length, int(self.head.output_dim))  # type: ignore[arg-type]
        self.loss = InfoNCELoss(config)

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        """Returns the loss of the global views' neighbours and the other views' predictions.

        Neighbours are the queries, without gradient; the predictions of all ranks' images are the keys,
        with gradient.
        """
        features = encode(self.backbone, batch.views)  # (V * B, D)
        projections = self.head(features)
        predictions = batch.by_view(self.predictor(projections))  # (V, B, d)
        embeddings = l2_normalize(projections.detach()[: batch.n_global * batch.n_images])
        support = self.queue.embeddings(embeddings)  # (Q, d)
        nearest = self.queue.nearest(embeddings)
        neighbors = batch.by_view(support[nearest])  # (V_g, B, d)
        loss = self.loss(neighbors, predictions)
        self.queue.keep(embeddings[: batch.n_images])
        return StepOutput(
            loss,
            features,
            lambda: _metrics(loss, neighbors, predictions, nearest[: batch.n_images]),
        )


def _metrics(loss: Tensor, neighbors: Tensor, predictions: Tensor, nearest: Tensor) -> Metrics:
    """Returns metrics that indicate problems; `nearest` are the neighbours of one view, `(B,)`."""
    n_images = len(nearest) * distributed.world_size()
    return {
        "loss_over_chance": over_chance(loss, n_images),
        "positive_cosine": float(positive_cosine(neighbors, predictions)),
        "distinct_neighbors": len(torch.unique(nearest)) / len(nearest),
    }
