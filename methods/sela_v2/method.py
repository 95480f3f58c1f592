"""SeLa-v2 (Caron et al., 2020, "Unsupervised learning of visual features by contrasting cluster
assignments", arXiv:2006.09882, appendix): SeLa with the improvements of DeepCluster-v2.

The authors released no code; facebookresearch/swav, issue 59, describes it: start from DeepCluster-v2,
assign with Sinkhorn-Knopp instead of k-means, and learn prototypes as in SwAV.
"""

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from ssl_zoo.assignment.balanced import balanced_assignment
from ssl_zoo.backbones.base import Backbone
from ssl_zoo.config import NamedConfig, default
from ssl_zoo.heads.base import HEADS
from ssl_zoo.heads.mlp import l2_normalize
from ssl_zoo.heads.prototypes import Prototypes, prototype_layers
from ssl_zoo.losses import ClusterPredictionLoss, ClusterPredictionSettings
from ssl_zoo.memory import BankedClusters, cluster_alarms
from ssl_zoo.memory.counts import clusters_of
from ssl_zoo.method import METHODS, Alarm, Batch, EpochData, Method, RunInfo, StepOutput, encode
from ssl_zoo.schedule import Duration, Progress


@METHODS.register
class SeLaV2(Method):
    """Predicts the prototype of an image in a balanced assignment of the last epoch."""

    paper: ClassVar[str] = "Caron et al., NeurIPS 2020, arXiv:2006.09882"
    alarms: ClassVar[tuple[Alarm, ...]] = cluster_alarms("method.n_prototypes")

    class Config(ClusterPredictionSettings, NamedConfig):
        """Settings of SeLa-v2; defaults from DeepCluster-v2, SwAV (freezing) and SeLa (sharpness)."""

        name: Literal["sela_v2"] = "sela_v2"
        head: Annotated[NamedConfig, HEADS] = default("mlp")
        """Projection head between features and embeddings."""
        n_prototypes: list[Annotated[int, Field(ge=2)]] = Field(
            default=[3000, 3000, 3000], min_length=1
        )
        """Number of prototypes of each set; the losses of sets are averaged."""
        freeze_prototypes: Duration = default("313 steps")
        """Initial duration in which prototypes are frozen."""
        sharpness: float = Field(default=25.0, ge=0.1, le=1000)
        """SeLa's lambda: power to which predictions are raised before balancing; larger values give more
        equal numbers of images per prototype."""
        sinkhorn_iterations: int = Field(default=200, ge=1, le=100_000)
        """Maximum number of iterations of an assignment, which ends early when prototypes are nearly
        balanced."""

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
        self.loss = ClusterPredictionLoss(config)
        self.clusters = BankedClusters(config.n_prototypes, run=run, setting="method.n_prototypes")

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        """Returns the cross entropy of all views, local crops included, with the prototypes of their
        images."""
        features = encode(self.backbone, batch.views)  # (V * B, D)
        embeddings = l2_normalize(self.head(features))  # (V * B, d)
        targets = self.clusters.targets
        losses = self.loss(self.prototypes(embeddings), targets.of(batch.index))
        self.clusters.keep(batch, embeddings)
        return StepOutput(losses.mean(), features, lambda: targets.metrics(losses))

    def before_epoch(self, progress: Progress, data: EpochData) -> None:
        """Assigns the embeddings of the last epoch to prototypes, in equal numbers.

        Before the first epoch there is a pass over its images, in training mode.
        """
        self.prototypes.normalize()
        prototypes = self.prototypes.weights
        self.clusters.prepare(data, self._embed, device=prototypes[0].device)
        for number, weight in enumerate(prototypes):
            clusters = balanced_assignment(
                self.clusters.points(number),
                weight,
                epsilon=self.config.temperature / self.config.sharpness,
                max_iterations=self.config.sinkhorn_iterations,
            )
            self.clusters.assign(number, clusters)

    def before_step(self, progress: Progress) -> None:
        """Normalises prototypes, so that scores are cosine similarities."""
        self.prototypes.normalize()

    def frozen(self, progress: Progress) -> Iterable[nn.Parameter]:
        """Returns the prototypes in the first steps."""
        until = self.config.freeze_prototypes.steps(progress.steps_per_epoch)
        return self.prototypes.parameters() if progress.step < until else ()

    def durations(self) -> dict[str, Duration]:
        """Returns how long prototypes are frozen."""
        return {"freeze_prototypes": self.config.freeze_prototypes}

    def layers(self) -> dict[str, nn.Module]:
        """Returns the head and each set of prototypes."""
        return prototype_layers(self.head, self.prototypes)

    def _embed(self, views: list[Tensor]) -> Tensor:
        """Maps views to L2-normalised embeddings, `(V * B, d)`."""
        return l2_normalize(self.head(encode(self.backbone, views)))
