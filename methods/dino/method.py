"""DINO (Caron et al., 2021, "Emerging properties in self-supervised vision transformers",
arXiv:2104.14294), after its text and the facts of facebookresearch/dino."""

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from torch import nn

from ssl_zoo.backbones.base import Backbone
from ssl_zoo.config import NamedConfig, default
from ssl_zoo.heads.prototype_head import PrototypeHead, PrototypeHeadConfig
from ssl_zoo.losses.swapped_prediction import swapped_prediction
from ssl_zoo.memory.centering import MeanCentering, SinkhornCentering, target_metrics
from ssl_zoo.memory.counts import clusters_of
from ssl_zoo.method import (
    METHODS,
    Alarm,
    Batch,
    Method,
    RunInfo,
    StepOutput,
    encode,
)
from ssl_zoo.schedule import Duration, Progress, Ramp, Share, within
from ssl_zoo.teacher import Teacher


@METHODS.register
class DINO(Method):
    """Predicts a momentum teacher's distribution over prototypes for other views of an image."""

    paper: ClassVar[str] = "Caron et al., ICCV 2021, arXiv:2104.14294"
    alarms: ClassVar[tuple[Alarm, ...]] = (
        Alarm(
            metric="teacher_entropy",
            above=0.99,
            patience=5,
            advice="the teacher's output is nearly uniform: lower method.teacher_temperature, "
            "or freeze prototypes longer (method.freeze_prototypes)",
        ),
        Alarm.at_chance(
            "lower method.teacher_temperature, lower optimizer.lr, or lengthen schedule.warmup"
        ),
        Alarm(
            metric="mean_target_entropy",
            below=0.1,
            advice="one prototype gets nearly all images: update the centre faster (a lower "
            "method.center_momentum), raise method.teacher_temperature, or set "
            "method.centering=sinkhorn",
        ),
    )

    class Config(NamedConfig):
        """Settings of DINO; defaults are those of the paper for ImageNet."""

        name: Literal["dino"] = "dino"
        head: PrototypeHeadConfig = PrototypeHeadConfig()
        """Head between features and scores, of the student and of the teacher."""
        momentum: Share = Ramp(start=0.996, end=1.0)
        """Momentum of the teacher: fraction of its weights that a step keeps."""
        student_temperature: float = Field(default=0.1, ge=0.01, le=10)
        """Temperature of the student; divides its scores."""
        teacher_temperature: Annotated[Ramp, within(0.001, 10)] = Ramp(
            start=0.04, end=0.07, shape="linear", over=Duration(value=30, unit="epochs")
        )
        """Temperature of the teacher; lower than the student's, it sharpens the targets."""
        centering: Literal["mean", "sinkhorn"] = "mean"
        """How to prevent one prototype from getting all images: subtract a running mean, or balance
        codes."""
        center_momentum: float = Field(default=0.9, ge=0, lt=1)
        """Momentum of the centre: fraction of the running mean that a step keeps."""
        sinkhorn_iterations: int = Field(default=3, ge=1, le=100)
        """Number of Sinkhorn iterations for balanced codes."""
        freeze_prototypes: Duration = default("1 epoch")
        """Initial duration in which the student's prototypes are frozen."""

    @classmethod
    def fitted(cls, config: Any, run: RunInfo) -> dict[str, tuple[Any, str]]:
        """Returns the number of prototypes for the number of images; see `Method.fitted`."""
        return {"head.n_prototypes": clusters_of(run, images=4)}

    def __init__(self, config: Config, *, backbone: Backbone, run: RunInfo) -> None:
        super().__init__(config, backbone=backbone, run=run)
        self.head = PrototypeHead(config.head, input_dim=backbone.feature_dim)
        self.teacher = Teacher(backbone, self.head)
        self.targets = (
            MeanCentering(config.head.n_prototypes, momentum=config.center_momentum)
            if config.centering == "mean"
            else SinkhornCentering(config.sinkhorn_iterations)
        )

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        """Returns the cross entropy of teacher and student over pairs of a global and another view."""
        features = encode(self.backbone, batch.views)  # (V * B, D)
        scores = batch.by_view(self.head(features))  # (V, B, K)
        temperature = self.config.teacher_temperature.at(progress)
        targets = self.targets(self.teacher(batch.views[:1]), temperature=temperature)
        targets = batch.by_view(targets)  # (V_g, B, K)
        loss = swapped_prediction(scores, targets, temperature=self.config.student_temperature)
        return StepOutput(loss, features, lambda: target_metrics(loss, targets))

    def frozen(self, progress: Progress) -> Iterable[nn.Parameter]:
        """Returns the student's prototypes as long as they are frozen."""
        steps = self.config.freeze_prototypes.steps(progress.steps_per_epoch)
        return [self.head.prototypes] if progress.step < steps else []

    def durations(self) -> dict[str, Duration]:
        """Returns how long prototypes are frozen."""
        return {"freeze_prototypes": self.config.freeze_prototypes}

    def after_step(self, progress: Progress) -> None:
        """Updates the teacher."""
        momentum = self.config.momentum.at(progress)
        self.teacher.follow(self.backbone, self.head, momentum=momentum)

    def layers(self) -> dict[str, nn.Module]:
        """Returns the teacher's head, which ends in prototypes."""
        return {"prototypes": self.teacher.head}

    @property
    def exported(self) -> Backbone:
        """The teacher's backbone, which is better than the student's during training (section 5.2)."""
        backbone = self.teacher.backbone
        assert isinstance(backbone, Backbone)
        return backbone
