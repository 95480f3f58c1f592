"""Self-Classifier (Amrani et al., 2022, "Self-supervised classification network", arXiv:2103.10994),
after its text and the facts of elad-amrani/self-classifier (commit 3935138)."""

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ssl_zoo.backbones.base import Backbone
from ssl_zoo.config import NamedConfig, RunSettings, default
from ssl_zoo.heads.base import HEADS
from ssl_zoo.heads.mlp import l2_normalize
from ssl_zoo.heads.prototypes import Prototypes, prototype_layers
from ssl_zoo.memory import SharedQueue, check_fits_data, check_whole_batches
from ssl_zoo.memory.counts import clusters_of, queue_of
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
from ssl_zoo.methods.self_classifier.loss import self_classification
from ssl_zoo.schedule import Progress

_HEAD = {"name": "mlp", "hidden_dims": [4096], "output_dim": 128, "activation": "leaky_relu"}


@METHODS.register
class SelfClassifier(Method):
    """Learns classes and features at once: views of an image agree, and all classes are used equally."""

    paper: ClassVar[str] = "Amrani et al., ECCV 2022, arXiv:2103.10994"
    alarms: ClassVar[tuple[Alarm, ...]] = (
        Alarm.at_chance(
            "lower optimizer.lr or method.target_temperature, or use fewer prototypes "
            "(method.n_prototypes)"
        ),
    )

    class Config(NamedConfig):
        """Settings of Self-Classifier; defaults are those of its ImageNet scripts without a queue."""

        name: Literal["self_classifier"] = "self_classifier"
        head: Annotated[NamedConfig, HEADS] = default(_HEAD)
        """Projection head between features and embeddings."""
        n_prototypes: list[Annotated[int, Field(ge=2)]] = Field(
            default=[1000, 2000, 4000, 8000], min_length=1
        )
        """Number of prototypes, one for each class; several numbers create several sets, whose losses
        are averaged."""
        temperature: float = Field(default=0.1, ge=0.01, le=10)
        """Temperature of predictions; divides the scores before the softmax over classes."""
        target_temperature: float = Field(default=0.05, ge=0.001, le=10)
        """Temperature of targets; divides the scores before the softmax over images."""
        queue_length: int = Field(default=0, ge=0)
        """Number of embeddings of earlier batches, over all processes, among which the nearest neighbour
        replaces the first view; 0 for none."""

        def check(self, run: RunSettings) -> None:
            """Raises `ValueError` if the queue does not consist of whole batches."""
            check_whole_batches(self.queue_length, run.global_batch_size)

    @classmethod
    def fitted(cls, config: Any, run: RunInfo) -> dict[str, tuple[Any, str]]:
        """Returns prototypes and queue for the number of images; see `Method.fitted`."""
        count, reason = clusters_of(run, images=100)
        smallest = min(config.n_prototypes)
        counts = [max(2, count * n // smallest) for n in config.n_prototypes]
        found: dict[str, tuple[Any, str]] = {
            "n_prototypes": (counts, f"{reason}, in the smallest")
        }
        if config.queue_length:
            found["queue_length"] = queue_of(run, part=2)
        return found

    def __init__(self, config: Config, *, backbone: Backbone, run: RunInfo) -> None:
        super().__init__(config, backbone=backbone, run=run)
        self.head = HEADS.build(config.head, input_dim=backbone.feature_dim)
        dim = int(self.head.output_dim)  # type: ignore[arg-type]
        prototypes = Prototypes.Config(n_prototypes=config.n_prototypes)
        self.prototypes = Prototypes(prototypes, input_dim=dim)
        self.queue: SharedQueue | None = None
        if config.queue_length:
            check_fits_data(config.queue_length, run.n_samples, run.global_batch_size)
            self.queue = SharedQueue(config.queue_length, dim)

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        """Returns the mean loss of all sets of prototypes."""
        features = encode(self.backbone, batch.views)  # (V * B, D)
        embeddings = self._with_neighbors(l2_normalize(self.head(features)), batch)
        losses = [
            self_classification(
                batch.by_view(scores),
                batch.n_global,
                temperature=self.config.temperature,
                target_temperature=self.config.target_temperature,
            )
            for scores in self.prototypes(embeddings)
        ]
        return StepOutput(torch.stack(losses).mean(), features, lambda: self._metrics(losses))

    def _with_neighbors(self, embeddings: Tensor, batch: Batch) -> Tensor:
        """Replaces the first view's embeddings of `(V * B, d)` by their neighbours, without gradient."""
        if self.queue is None:
            return embeddings
        first, others = embeddings.tensor_split([batch.n_images])
        nearest = self.queue.nearest(first.detach(), batch.index)
        neighbors = self.queue.embeddings(first.detach())[nearest]
        self.queue.keep(first, batch.index)
        return torch.cat([neighbors, others])

    def _metrics(self, losses: list[Tensor]) -> Metrics:
        counts = self.config.n_prototypes
        ratios = [over_chance(loss, n) for loss, n in zip(losses, counts, strict=True)]
        return {"loss_over_chance": sum(ratios) / len(ratios)}

    def before_step(self, progress: Progress) -> None:
        """Normalises prototypes, so that scores are cosine similarities."""
        self.prototypes.normalize()

    def layers(self) -> dict[str, nn.Module]:
        """Returns the head and each set of prototypes."""
        return prototype_layers(self.head, self.prototypes)
