"""MoCo v3 (Chen, Xie & He, 2021, "An empirical study of training self-supervised vision
transformers", arXiv:2104.02057), after its Algorithm 1 and the facts of facebookresearch/moco-v3."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from ssl_zoo import distributed
from ssl_zoo.backbones.base import Backbone
from ssl_zoo.config import NamedConfig, default
from ssl_zoo.heads.base import HEADS
from ssl_zoo.heads.predictor import build_predictor
from ssl_zoo.losses.info_nce import InfoNCELoss, InfoNCESettings, positive_cosine
from ssl_zoo.method import METHODS, Alarm, Batch, Method, RunInfo, StepOutput, encode, over_chance
from ssl_zoo.schedule import Progress, Share
from ssl_zoo.teacher import Teacher

_HEAD: dict[str, Any] = {
    "name": "mlp",
    "hidden_dims": [4096],
    "output_dim": 256,
    "hidden_bias": False,
    "output_bias": False,
    "output_batch_norm": True,
    "output_affine": False,
}
_PREDICTOR: dict[str, Any] = {
    "name": "mlp",
    "hidden_dims": [4096],
    "output_dim": 256,
    "hidden_bias": False,
    "output_bias": False,
}
"""Heads for a ResNet, as in moco/builder.py of facebookresearch/moco-v3; a ViT's differ."""


@METHODS.register
class MoCoV3(Method):
    """Identifies the teacher's key of the same image among those of the batch."""

    paper: ClassVar[str] = "Chen, Xie & He, ICCV 2021, arXiv:2104.02057"
    alarms: ClassVar[tuple[Alarm, ...]] = (
        Alarm.at_chance("lower optimizer.lr or method.temperature, or lengthen schedule.warmup"),
    )

    class Config(InfoNCESettings, NamedConfig):
        """Settings of MoCo v3; defaults are the authors' for ResNet-50."""

        name: Literal["moco_v3"] = "moco_v3"
        temperature: float = Field(default=1.0, ge=0.01, le=10)
        """Divides the cosine similarities (1: ResNet-50; 0.2: ViTs)."""
        head: Annotated[NamedConfig, HEADS] = default(_HEAD)
        """Projection head between features and embeddings, of student and teacher; ViTs use three
        layers."""
        predictor: Annotated[NamedConfig, HEADS] = default(_PREDICTOR)
        """Head that maps the student's embeddings to queries; for ViTs it ends with batch
        normalisation."""
        momentum: Share = default({"start": 0.99, "end": 1.0})
        """Momentum of the teacher: fraction of its weights that a step keeps."""

    def __init__(self, config: Config, *, backbone: Backbone, run: RunInfo) -> None:
        super().__init__(config, backbone=backbone, run=run)
        self.head = HEADS.build(config.head, input_dim=backbone.feature_dim)
        self.predictor = build_predictor(config.predictor, self.head)
        self.teacher = Teacher(backbone, self.head)
        self.loss = InfoNCELoss(config)

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        """Returns the loss of all views with the teacher's keys of the other global views.

        Algorithm 1 adds both directions and scales each by twice the temperature; this is therefore
        twice the mean over pairs, for any number of pairs.
        """
        features = encode(self.backbone, batch.views)  # (V * B, D)
        queries = batch.by_view(self.predictor(self.head(features)))  # (V, B, d)
        keys = batch.by_view(self.teacher(batch.views[:1]))  # (V_g, B, d)
        cross_entropy = self.loss(queries, keys)
        n_keys = batch.n_images * distributed.world_size()
        return StepOutput(
            2 * (2 * self.config.temperature) * cross_entropy,
            features,
            lambda: {
                "loss_over_chance": over_chance(cross_entropy, n_keys),
                "positive_cosine": float(positive_cosine(queries, keys)),
            },
        )

    def after_step(self, progress: Progress) -> None:
        """Updates the teacher."""
        momentum = self.config.momentum.at(progress)
        self.teacher.follow(self.backbone, self.head, momentum=momentum)
