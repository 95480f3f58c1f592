"""DeepCluster (Caron et al., 2018, "Deep clustering for unsupervised learning of visual features",
arXiv:1807.05520), after its text and the facts of facebookresearch/deepcluster, main.py."""

from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from ssl_zoo.assignment.kmeans import spherical_kmeans
from ssl_zoo.backbones.base import Backbone
from ssl_zoo.config import NamedConfig, default
from ssl_zoo.losses.cluster_prediction import cluster_prediction
from ssl_zoo.memory import EmbeddingBank, Targets, check_cluster_counts, cluster_alarms
from ssl_zoo.memory.counts import clusters_of
from ssl_zoo.method import METHODS, Alarm, Batch, EpochData, Method, RunInfo, StepOutput, encode
from ssl_zoo.methods.deepcluster.whitening import whiten
from ssl_zoo.schedule import Duration, Progress


@METHODS.register
class DeepCluster(Method):
    """Classifies images into k-means clusters of their features, updated between epochs."""

    paper: ClassVar[str] = "Caron et al., ECCV 2018, arXiv:1807.05520"
    min_global: ClassVar[int] = 1
    alarms: ClassVar[tuple[Alarm, ...]] = cluster_alarms("method.n_clusters")

    class Config(NamedConfig):
        """Settings of DeepCluster; defaults from facebookresearch/deepcluster, main.py."""

        name: Literal["deepcluster"] = "deepcluster"
        n_clusters: int = Field(default=10_000, ge=2)
        """Number of clusters."""
        pca_dim: int = Field(default=256, ge=1)
        """Maximum dimension of the whitened features for clustering."""
        kmeans_iterations: int = Field(default=20, ge=1, le=1000)
        """Number of iterations of k-means."""
        recluster_every: Duration = default("1 epoch")
        """Interval between clusterings, which are done before the next epoch."""

    @classmethod
    def fitted(cls, config: Any, run: RunInfo) -> dict[str, tuple[Any, str]]:
        """Returns the number of clusters for the number of images; see `Method.fitted`."""
        return {"n_clusters": clusters_of(run, images=20)}

    def __init__(self, config: Config, *, backbone: Backbone, run: RunInfo) -> None:
        super().__init__(config, backbone=backbone, run=run)
        check_cluster_counts("method.n_clusters", [config.n_clusters], run)
        self.classifier = nn.Linear(backbone.feature_dim, config.n_clusters)
        self.bank = EmbeddingBank(run)  # filled only during a clustering
        self.targets = Targets(run, [config.n_clusters])

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        """Returns the cross entropy of all views with the clusters of their images."""
        features = encode(self.backbone, batch.views)  # (V * B, D)
        losses = cluster_prediction(
            [self.classifier(features)],
            self.targets.of(batch.index),
            weights=[self.targets.weights(0)],
        )
        return StepOutput(losses.mean(), features, lambda: self.targets.metrics(losses))

    @torch.no_grad()
    def before_epoch(self, progress: Progress, data: EpochData) -> None:
        """Clusters whitened features of the epoch's images if due, and resets the classifier."""
        if not self.config.recluster_every.is_due(progress.step, progress.steps_per_epoch):
            return
        self.bank.fill_with_features(self.backbone, data.images())
        self.bank.transform(lambda features: whiten(features, max_dim=self.config.pca_dim))
        generator = self.bank.generator(progress.epoch)
        _, clusters = spherical_kmeans(
            self.bank.embeddings(0),
            self.bank.sample(0, self.config.n_clusters, generator),
            n_iterations=self.config.kmeans_iterations,
        )
        self.targets.assign(0, self.bank.index, clusters)
        self.bank.clear()
        weight = torch.randn(self.classifier.weight.shape, generator=generator)
        self.classifier.weight.copy_(0.01 * weight)
        self.classifier.bias.zero_()

    def param_groups(self) -> Iterable[dict[str, Any]]:
        """Returns the network, and the classifier without momentum, which would outlast its reset
        weights."""
        return [
            {"params": [p for p in self.backbone.parameters() if p.requires_grad]},
            {"params": list(self.classifier.parameters()), "momentum": 0.0},
        ]
