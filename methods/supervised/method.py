"""Cross entropy with labels: an upper baseline trained on the same views."""

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ssl_zoo.backbones.base import Backbone
from ssl_zoo.config import NamedConfig
from ssl_zoo.errors import UserError
from ssl_zoo.method import METHODS, Alarm, Batch, Method, RunInfo, StepOutput, encode, over_chance
from ssl_zoo.schedule import Progress


@METHODS.register
class Supervised(Method):
    """Predicts the class of each view from its features; an upper baseline, not self-supervised."""

    needs_labels: ClassVar[bool] = True
    min_global: ClassVar[int] = 1
    paper: ClassVar[str] = (
        "an upper baseline, as in Caron et al., NeurIPS 2020, arXiv:2006.09882, Figure 3"
    )

    alarms: ClassVar[tuple[Alarm, ...]] = (
        Alarm.at_chance("lower optimizer.lr, or lengthen schedule.warmup"),
    )

    class Config(NamedConfig):
        """Settings of training with labels."""

        name: Literal["supervised"] = "supervised"
        label_smoothing: float = Field(default=0.0, ge=0, lt=1)
        """Label smoothing: fraction of a target that is distributed over all classes (Szegedy et al.,
        2016, arXiv:1512.00567)."""

    def __init__(self, config: Config, *, backbone: Backbone, run: RunInfo) -> None:
        super().__init__(config, backbone=backbone, run=run)
        if run.n_classes is None:
            raise UserError(
                "this method needs classes, but the data set names none; choose a data set with labels"
            )
        self.classifier = nn.Linear(backbone.feature_dim, run.n_classes)

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        """Returns the mean cross entropy over all views, global and local."""
        assert batch.labels is not None, "the loader provides labels to methods that need them"
        features = encode(self.backbone, batch.views)  # (V * B, D)
        logits = self.classifier(features)  # (V * B, n_classes)
        labels = batch.labels.repeat(
            len(features) // batch.n_images
        )  # views of an image are B rows apart
        loss = _cross_entropy(logits, labels, self.config)
        return StepOutput(
            loss,
            features,
            lambda: {
                "top1": 100 * float((logits.argmax(dim=1) == labels).double().mean()),
                "loss_over_chance": over_chance(loss, logits.shape[1]),
            },
        )


def _cross_entropy(logits: Tensor, labels: Tensor, config: Any) -> Tensor:
    with torch.autocast(logits.device.type, enabled=False):
        return functional.cross_entropy(
            logits.to(torch.promote_types(logits.dtype, torch.float32)),
            labels,
            label_smoothing=config.label_smoothing,
        )
