"""SimCLR (Chen et al., 2020, "A simple framework for contrastive learning of visual
representations", arXiv:2002.05709), also with more than two views and with crops of several sizes."""

from typing import Annotated, ClassVar, Literal

from ssl_zoo import distributed
from ssl_zoo.backbones.base import Backbone
from ssl_zoo.config import NamedConfig, default
from ssl_zoo.heads.base import HEADS
from ssl_zoo.heads.mlp import l2_normalize
from ssl_zoo.losses.nt_xent import NTXentLoss, NTXentSettings
from ssl_zoo.method import METHODS, Alarm, Batch, Method, RunInfo, StepOutput, encode, over_chance
from ssl_zoo.schedule import Progress


@METHODS.register
class SimCLR(Method):
    """Pulls views of the same image together and pushes views of other images apart."""

    recommended: ClassVar[bool] = True  # it has few settings and learns from few images
    paper: ClassVar[str] = "Chen et al., ICML 2020, arXiv:2002.05709"
    alarms: ClassVar[tuple[Alarm, ...]] = (
        Alarm.at_chance("lower optimizer.lr, or lengthen schedule.warmup"),
    )

    class Config(NTXentSettings, NamedConfig):
        """Settings of SimCLR."""

        name: Literal["simclr"] = "simclr"
        head: Annotated[NamedConfig, HEADS] = default("mlp")
        """Projection head between features and embeddings."""

    def __init__(self, config: Config, *, backbone: Backbone, run: RunInfo) -> None:
        super().__init__(config, backbone=backbone, run=run)
        self.head = HEADS.build(config.head, input_dim=backbone.feature_dim)
        self.loss = NTXentLoss(config)

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        """Returns the NT-Xent loss over all ranks' images."""
        features = encode(self.backbone, batch.views)  # (V * B, D)
        embeddings = batch.by_view(l2_normalize(self.head(features)))  # (V, B, d)
        loss = self.loss(embeddings, batch.n_global)
        n_candidates = 1 + batch.n_global * (batch.n_images * distributed.world_size() - 1)
        return StepOutput(
            loss, features, lambda: {"loss_over_chance": over_chance(loss, n_candidates)}
        )
