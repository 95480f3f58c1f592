"""SimDINO (Wu et al., 2025, "Simplifying DINO via coding rate regularization", arXiv:2502.10385), after
its text and the facts of RobinWu218/SimDINO (commit 8149fc4)."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from ssl_zoo.backbones.base import Backbone
from ssl_zoo.config import NamedConfig, default
from ssl_zoo.heads.base import HEADS
from ssl_zoo.losses.coding_rate import coding_rate, coding_rate_weight, largest_coding_rate
from ssl_zoo.losses.moments import n_images
from ssl_zoo.losses.pairs import mean_cosine
from ssl_zoo.method import METHODS, Alarm, Batch, Method, Metrics, RunInfo, StepOutput, encode
from ssl_zoo.schedule import Progress, Ramp, Share
from ssl_zoo.teacher import Teacher

_HEAD = {
    "name": "mlp",
    "hidden_dims": [2048, 2048],
    "output_dim": 256,
    "batch_norm": False,
    "activation": "gelu",
}


@METHODS.register
class SimDINO(Method):
    """Follows a momentum teacher's embeddings of other views, while embeddings fill their space."""

    paper: ClassVar[str] = "Wu et al., ICML 2025, arXiv:2502.10385"
    alarms: ClassVar[tuple[Alarm, ...]] = (
        Alarm(
            metric="filled",
            below=0.1,
            patience=5,
            advice="embeddings of different images are nearly equal: lower "
            "method.similarity_weight, or lower optimizer.lr",
        ),
    )

    class Config(NamedConfig):
        """Settings of SimDINO; defaults are those of its ImageNet runs."""

        name: Literal["simdino"] = "simdino"
        head: Annotated[NamedConfig, HEADS] = default(_HEAD)
        """Projection head between features and embeddings, of the student and of the teacher."""
        momentum: Share = Ramp(start=0.996, end=1.0)
        """Momentum of the teacher: fraction of its weights that a step keeps."""
        similarity_weight: float = Field(default=1.0, gt=0, le=1000)
        """Weight of the cosine between student and teacher."""
        epsilon: float = Field(default=0.05, ge=1e-4, le=10)
        """Precision of the coding rate; smaller values count finer differences between embeddings."""

    def __init__(self, config: Config, *, backbone: Backbone, run: RunInfo) -> None:
        super().__init__(config, backbone=backbone, run=run)
        self.head = HEADS.build(config.head, input_dim=backbone.feature_dim)
        self.teacher = Teacher(backbone, self.head)

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        """Returns the loss: cosines of pairs of views, and the rate of each global view of all ranks."""
        features = encode(self.backbone, batch.views)  # (V * B, D)
        embeddings = batch.by_view(self.head(features))  # (V, B, d)
        targets = batch.by_view(self.teacher(batch.views[:1]))  # (V_g, B, d)
        cosine = mean_cosine(embeddings, targets)
        dim, count = embeddings.shape[2], n_images(embeddings)
        rate = coding_rate(embeddings[: batch.n_global], epsilon=self.config.epsilon).mean()
        loss = -self.config.similarity_weight * cosine - coding_rate_weight(dim, count) * rate
        return StepOutput(loss, features, lambda: self._metrics(cosine, rate, dim, count))

    def _metrics(self, cosine: Tensor, rate: Tensor, dim: int, count: int) -> Metrics:
        largest = largest_coding_rate(dim, count, epsilon=self.config.epsilon)
        return {"cosine": float(cosine.detach()), "filled": float(rate.detach()) / largest}

    def after_step(self, progress: Progress) -> None:
        """Updates the teacher."""
        momentum = self.config.momentum.at(progress)
        self.teacher.follow(self.backbone, self.head, momentum=momentum)

    @property
    def exported(self) -> Backbone:
        """The teacher's backbone."""
        backbone = self.teacher.backbone
        assert isinstance(backbone, Backbone)
        return backbone
