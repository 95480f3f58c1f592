"""SeLa (Asano et al., 2020, "Self-labelling via simultaneous clustering and representation
learning", arXiv:1911.05371), after its text and the facts of yukimasano/self-label."""

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from ssl_zoo.assignment.balanced import balanced_assignment
from ssl_zoo.backbones.base import Backbone
from ssl_zoo.config import NamedConfig, default
from ssl_zoo.losses.cluster_prediction import cluster_prediction
from ssl_zoo.memory import EmbeddingBank, Targets, check_cluster_counts, cluster_alarms
from ssl_zoo.memory.counts import clusters_of
from ssl_zoo.method import METHODS, Alarm, Batch, EpochData, Method, RunInfo, StepOutput, encode
from ssl_zoo.schedule import Duration, Progress


@METHODS.register
class SeLa(Method):
    """Classifies images into self-assigned labels: the most likely ones that use all classes equally."""

    paper: ClassVar[str] = "Asano et al., ICLR 2020, arXiv:1911.05371"
    min_global: ClassVar[int] = 1
    alarms: ClassVar[tuple[Alarm, ...]] = cluster_alarms("method.n_clusters")

    class Config(NamedConfig):
        """Settings of SeLa; defaults from the paper, sections 3 and 4, for ImageNet."""

        name: Literal["sela"] = "sela"
        n_clusters: list[Annotated[int, Field(ge=2)]] = Field(default=[3000] * 10, min_length=1)
        """Number of labels of each head; the losses of heads are averaged."""
        sharpness: float = Field(default=25.0, ge=0.1, le=1000)
        """Lambda: power to which predictions are raised before balancing."""
        sinkhorn_iterations: int = Field(default=200, ge=1, le=100_000)
        """Maximum number of iterations of a labelling, which ends early when labels are nearly
        balanced."""
        relabel_every: Duration = default("1 epoch")
        """Interval between labellings, which are done before the next epoch."""

    @classmethod
    def fitted(cls, config: Any, run: RunInfo) -> dict[str, tuple[Any, str]]:
        """Returns numbers of clusters for the number of images; see `Method.fitted`."""
        count, reason = clusters_of(run, images=20)
        return {"n_clusters": ([count] * len(config.n_clusters), reason)}

    def __init__(self, config: Config, *, backbone: Backbone, run: RunInfo) -> None:
        super().__init__(config, backbone=backbone, run=run)
        check_cluster_counts("method.n_clusters", config.n_clusters, run)
        self.classifiers = nn.ModuleList(
            nn.Linear(backbone.feature_dim, n_clusters) for n_clusters in config.n_clusters
        )
        self.bank = EmbeddingBank(run)  # filled only during a labelling
        self.targets = Targets(run, config.n_clusters)

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        """Returns the cross entropy of all views with the labels of their images, averaged over
        heads."""
        features = encode(self.backbone, batch.views)  # (V * B, D)
        scores = [classifier(features) for classifier in self.classifiers]
        losses = cluster_prediction(scores, self.targets.of(batch.index))
        return StepOutput(losses.mean(), features, lambda: self.targets.metrics(losses))

    @torch.no_grad()
    def before_epoch(self, progress: Progress, data: EpochData) -> None:
        """Labels the epoch's images again if due.

        Sinkhorn-Knopp on log-probabilities times lambda equals Sinkhorn-Knopp on logits with an epsilon
        of 1 / lambda: the two differ by a constant per sample, which normalising the sample removes. For
        the same reason the biases of a classifier have no effect: normalising the prototypes removes
        them.
        """
        if not self.config.relabel_every.is_due(progress.step, progress.steps_per_epoch):
            return
        self.bank.fill_with_features(self.backbone, data.images())
        features = self.bank.embeddings(0)
        for head, classifier in enumerate(self.classifiers):
            labels = balanced_assignment(
                features,
                classifier.get_parameter("weight"),
                epsilon=1 / self.config.sharpness,
                max_iterations=self.config.sinkhorn_iterations,
            )
            self.targets.assign(head, self.bank.index, labels)
        self.bank.clear()
