"""VICReg (Bardes et al., 2022, "VICReg: variance-invariance-covariance regularization for
self-supervised learning", arXiv:2105.04906), also with more views and with crops of several sizes."""

from typing import Annotated, ClassVar, Literal

from ssl_zoo.backbones.base import Backbone
from ssl_zoo.config import NamedConfig, default
from ssl_zoo.heads.base import HEADS
from ssl_zoo.method import METHODS, Alarm, Batch, Method, RunInfo, StepOutput, encode
from ssl_zoo.methods.vicreg.loss import VICRegLoss, VICRegSettings, vicreg_terms
from ssl_zoo.schedule import Progress

_HEAD = {"name": "mlp", "hidden_dims": [8192, 8192], "output_dim": 8192, "output_bias": False}


@METHODS.register
class VICReg(Method):
    """Pulls views of an image together, while embeddings vary and their coordinates are decorrelated."""

    paper: ClassVar[str] = "Bardes et al., ICLR 2022, arXiv:2105.04906"
    alarms: ClassVar[tuple[Alarm, ...]] = (
        Alarm(
            metric="variance",
            above=0.9,
            patience=5,
            advice="embeddings of different images are nearly equal: raise method.variance, or lower "
            "optimizer.lr",
        ),
    )

    class Config(VICRegSettings, NamedConfig):  # type: ignore[misc]  # mypy knows no ssl_zoo.methods
        """Settings of VICReg; defaults from facebookresearch/vicreg, main_vicreg.py."""

        name: Literal["vicreg"] = "vicreg"
        head: Annotated[NamedConfig, HEADS] = default(_HEAD)
        """Projection head between features and embeddings; the paper calls it expander."""

    def __init__(self, config: Config, *, backbone: Backbone, run: RunInfo) -> None:
        super().__init__(config, backbone=backbone, run=run)
        self.head = HEADS.build(config.head, input_dim=backbone.feature_dim)
        self.loss = VICRegLoss(config)

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        """Returns the loss; variance and covariance are over all ranks' images."""
        features = encode(self.backbone, batch.views)  # (V * B, D)
        embeddings = batch.by_view(self.head(features))  # (V, B, d)
        terms = vicreg_terms(embeddings, batch.n_global)
        return StepOutput(
            self.loss.weigh(terms),
            features,
            lambda: {name: float(term.detach()) for name, term in terms._asdict().items()},
        )
