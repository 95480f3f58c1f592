"""BYOL (Grill et al., 2020, "Bootstrap your own latent: a new approach to self-supervised
learning", arXiv:2006.07733), also with more than two views and with crops of several sizes."""

from typing import Annotated, ClassVar, Literal

from ssl_zoo.backbones.base import Backbone
from ssl_zoo.config import NamedConfig, default
from ssl_zoo.heads.base import HEADS
from ssl_zoo.heads.predictor import build_predictor
from ssl_zoo.losses.pairs import mean_cosine
from ssl_zoo.method import METHODS, Alarm, Batch, Method, RunInfo, StepOutput, encode
from ssl_zoo.schedule import Progress, Share
from ssl_zoo.teacher import Teacher

_MLP = {"name": "mlp", "hidden_dims": [4096], "output_dim": 256, "output_bias": False}
"""Projection and prediction of the authors' code: deepmind-research, byol/utils/networks.py."""


@METHODS.register
class BYOL(Method):
    """Predicts a momentum teacher's embedding of one view of an image from its other views."""

    paper: ClassVar[str] = "Grill et al., NeurIPS 2020, arXiv:2006.07733"
    alarms: ClassVar[tuple[Alarm, ...]] = (
        Alarm(
            metric="cosine",
            above=0.999,
            advice="predictions equal their targets, as when all embeddings are the same: "
            "raise method.momentum, lower optimizer.lr, or keep batch normalisation in both heads",
        ),
        Alarm(
            metric="cosine",
            below=0.05,
            patience=5,
            advice="predictions have nothing in common with their targets: lower optimizer.lr, or "
            "lengthen schedule.warmup",
        ),
    )

    class Config(NamedConfig):
        """Settings of BYOL; defaults are those of the authors' 300 epochs."""

        name: Literal["byol"] = "byol"
        head: Annotated[NamedConfig, HEADS] = default(_MLP)
        """Projection head between features and embeddings."""
        predictor: Annotated[NamedConfig, HEADS] = default(_MLP)
        """Maps the student's embeddings to predictions of the teacher's embeddings, of equal
        dimension."""
        momentum: Share = default({"start": 0.99, "end": 1.0})
        """Momentum of the teacher: fraction of its weights that a step keeps."""

    def __init__(self, config: Config, *, backbone: Backbone, run: RunInfo) -> None:
        super().__init__(config, backbone=backbone, run=run)
        self.head = HEADS.build(config.head, input_dim=backbone.feature_dim)
        self.predictor = build_predictor(config.predictor, head=self.head)
        self.teacher = Teacher(self.backbone, self.head)

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        """Returns the squared distance of normalised predictions and targets, summed over two
        directions."""
        features = encode(self.backbone, batch.views)  # (V * B, D)
        predictions = batch.by_view(self.predictor(self.head(features)))  # (V, B, d)
        targets = batch.by_view(self.teacher(batch.views[:1]))  # (V_g, B, d)
        cosine = mean_cosine(predictions, targets)
        return StepOutput(
            2 * (2 - 2 * cosine),  # the paper adds both directions, equation 2 and below
            features,
            lambda: {"cosine": float(cosine.detach())},
        )

    def after_step(self, progress: Progress) -> None:
        """Updates the teacher."""
        momentum = self.config.momentum.at(progress)
        self.teacher.follow(self.backbone, self.head, momentum=momentum)
