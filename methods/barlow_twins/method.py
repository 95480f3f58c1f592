"""Barlow Twins (Zbontar et al., 2021, "Barlow Twins: self-supervised learning via redundancy
reduction", arXiv:2103.03230), also with more than two views and with crops of several sizes."""

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from ssl_zoo.backbones.base import Backbone
from ssl_zoo.config import NamedConfig, default
from ssl_zoo.heads.base import HEADS
from ssl_zoo.method import METHODS, Alarm, Batch, Method, RunInfo, StepOutput, encode
from ssl_zoo.methods.barlow_twins.loss import (
    BarlowTwinsLoss,
    BarlowTwinsSettings,
    correlation_terms,
)
from ssl_zoo.schedule import Progress

_HEAD = {
    "name": "mlp",
    "hidden_dims": [8192, 8192],
    "output_dim": 8192,
    "hidden_bias": False,
    "output_bias": False,
}


@METHODS.register
class BarlowTwins(Method):
    """Makes embeddings of two views agree in each coordinate, and decorrelates coordinates."""

    paper: ClassVar[str] = "Zbontar et al., ICML 2021, arXiv:2103.03230"

    alarms: ClassVar[tuple[Alarm, ...]] = (
        Alarm(
            metric="invariance",
            above=0.95,
            patience=5,
            advice="the views of an image agree no more than those of different images: lower "
            "optimizer.lr, or lengthen schedule.warmup",
        ),
    )

    class Config(BarlowTwinsSettings, NamedConfig):  # type: ignore[misc]  # mypy knows no ssl_zoo.methods
        """Settings of Barlow Twins; defaults from facebookresearch/barlowtwins, main.py."""

        name: Literal["barlow_twins"] = "barlow_twins"
        head: Annotated[NamedConfig, HEADS] = default(_HEAD)
        """Projection head between features and embeddings; the loss standardises its output."""
        bias_lr_scale: float = Field(default=0.024, gt=0, le=1)
        """Learning rate of biases and normalisation layers relative to that of weights (.0048 over
        .2)."""

    def __init__(self, config: Config, *, backbone: Backbone, run: RunInfo) -> None:
        super().__init__(config, backbone=backbone, run=run)
        self.head = HEADS.build(config.head, input_dim=backbone.feature_dim)
        self.loss = BarlowTwinsLoss(config)

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        """Returns the loss over all ranks' images."""
        features = encode(self.backbone, batch.views)  # (V * B, D)
        embeddings = batch.by_view(self.head(features))  # (V, B, d)
        dim = embeddings.shape[2]
        terms = correlation_terms(embeddings, batch.n_global)
        return StepOutput(
            self.loss.weigh(terms),
            features,
            lambda: {
                "invariance": float(terms.invariance.detach()) / dim,
                "redundancy": float(terms.redundancy.detach()) / max(1, dim * (dim - 1)),
            },
        )

    def param_groups(self) -> Iterable[dict[str, Any]]:
        """Returns weights in one group, and biases and normalisation layers in another with its own
        rate."""
        trained = [p for p in self.parameters() if p.requires_grad]
        return [
            {"params": [p for p in trained if p.ndim > 1]},
            {
                "params": [p for p in trained if p.ndim <= 1],
                "lr_scale": self.config.bias_lr_scale,
            },
        ]
