"""DeepCluster-v2 (Caron et al., 2020, "Unsupervised learning of visual features by contrasting
cluster assignments", arXiv:2006.09882, appendix), after its text and the facts of
facebookresearch/swav, main_deepclusterv2.py."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from ssl_zoo.assignment.kmeans import spherical_kmeans
from ssl_zoo.backbones.base import Backbone
from ssl_zoo.config import NamedConfig, default
from ssl_zoo.heads.base import HEADS
from ssl_zoo.heads.mlp import l2_normalize
from ssl_zoo.heads.prototypes import Prototypes, prototype_layers
from ssl_zoo.losses import ClusterPredictionLoss, ClusterPredictionSettings
from ssl_zoo.memory import BankedClusters, cluster_alarms
from ssl_zoo.memory.counts import clusters_of
from ssl_zoo.method import METHODS, Alarm, Batch, EpochData, Method, RunInfo, StepOutput, encode
from ssl_zoo.schedule import Progress


@METHODS.register
class DeepClusterV2(Method):
    """Predicts the k-means cluster that an image's embedding had in the last epoch."""

    paper: ClassVar[str] = "Caron et al., NeurIPS 2020, arXiv:2006.09882"
    alarms: ClassVar[tuple[Alarm, ...]] = cluster_alarms("method.n_prototypes")

    class Config(ClusterPredictionSettings, NamedConfig):
        """Settings of DeepCluster-v2; defaults are those of the released ImageNet models."""

        name: Literal["deepcluster_v2"] = "deepcluster_v2"
        head: Annotated[NamedConfig, HEADS] = default("mlp")
        """Projection head between features and embeddings."""
        n_prototypes: list[Annotated[int, Field(ge=2)]] = Field(
            default=[3000, 3000, 3000], min_length=1
        )
        """Number of clusters of each clustering; the losses of clusterings are averaged."""
        kmeans_iterations: int = Field(default=10, ge=1, le=1000)
        """Number of iterations of k-means between epochs."""

    @classmethod
    def fitted(cls, config: Any, run: RunInfo) -> dict[str, tuple[Any, str]]:
        """Returns numbers of prototypes for the number of images; see `Method.fitted`."""
        count, reason = clusters_of(run, images=10)
        return {"n_prototypes": ([count] * len(config.n_prototypes), reason)}

    def __init__(self, config: Config, *, backbone: Backbone, run: RunInfo) -> None:
        super().__init__(config, backbone=backbone, run=run)
        self.head = HEADS.build(config.head, input_dim=backbone.feature_dim)
        self.prototypes = Prototypes(
            Prototypes.Config(n_prototypes=config.n_prototypes),
            input_dim=int(self.head.output_dim),  # type: ignore[arg-type]
        )
        self.prototypes.requires_grad_(False)  # prototypes are centroids
        self.loss = ClusterPredictionLoss(config)
        self.clusters = BankedClusters(config.n_prototypes, run=run, setting="method.n_prototypes")

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        """Returns the cross entropy of all views, local crops included, with the clusters of their
        images."""
        features = encode(self.backbone, batch.views)  # (V * B, D)
        embeddings = l2_normalize(self.head(features))  # (V * B, d)
        targets = self.clusters.targets
        losses = self.loss(self.prototypes(embeddings), targets.of(batch.index))
        self.clusters.keep(batch, embeddings)
        return StepOutput(losses.mean(), features, lambda: targets.metrics(losses))

    def before_epoch(self, progress: Progress, data: EpochData) -> None:
        """Clusters the embeddings of the last epoch; centroids become the prototypes.

        Before the first epoch there is a pass over its images in training mode, as in the authors' code.
        """
        prototypes = self.prototypes.weights
        self.clusters.prepare(data, self._embed, device=prototypes[0].device)
        for number, weight in enumerate(prototypes):
            centroids, clusters = spherical_kmeans(
                self.clusters.points(number),
                self.clusters.sample(number, progress.epoch),
                n_iterations=self.config.kmeans_iterations,
            )
            weight.copy_(centroids)
            self.clusters.assign(number, clusters)

    def layers(self) -> dict[str, nn.Module]:
        """Returns the head and each set of prototypes."""
        return prototype_layers(self.head, self.prototypes)

    def _embed(self, views: list[Tensor]) -> Tensor:
        """Maps views to L2-normalised embeddings, `(V * B, d)`."""
        return l2_normalize(self.head(encode(self.backbone, views)))
