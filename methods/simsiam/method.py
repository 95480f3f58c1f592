"""SimSiam (Chen and He, 2021, "Exploring simple Siamese representation learning",
arXiv:2011.10566), also with more than two views and with crops of several sizes."""

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal

from ssl_zoo.backbones.base import Backbone
from ssl_zoo.config import NamedConfig, default
from ssl_zoo.heads.base import HEADS
from ssl_zoo.heads.predictor import build_predictor
from ssl_zoo.losses.pairs import mean_cosine
from ssl_zoo.method import METHODS, Alarm, Batch, Method, RunInfo, StepOutput, encode
from ssl_zoo.schedule import Progress

_HEAD = {
    "name": "mlp",
    "hidden_dims": [2048, 2048],
    "output_dim": 2048,
    "hidden_bias": False,
    "output_bias": False,
    "output_batch_norm": True,
    "output_affine": False,
}
_PREDICTOR = {"name": "mlp", "hidden_dims": [512], "output_dim": 2048, "hidden_bias": False}


@METHODS.register
class SimSiam(Method):
    """Predicts the embedding of one view of an image from its other views."""

    paper: ClassVar[str] = "Chen and He, CVPR 2021, arXiv:2011.10566"
    alarms: ClassVar[tuple[Alarm, ...]] = (
        Alarm(
            metric="cosine",
            above=0.999,
            advice="predictions equal their targets, as when all embeddings are the same: "
            "lower optimizer.lr, keep batch normalisation at the end of method.head, and make the "
            "predictor's hidden layer narrower than an embedding",
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
        """Settings of SimSiam; defaults from facebookresearch/simsiam, simsiam/builder.py."""

        name: Literal["simsiam"] = "simsiam"
        head: Annotated[NamedConfig, HEADS] = default(_HEAD)
        """Projection head between features and embeddings."""
        predictor: Annotated[NamedConfig, HEADS] = default(_PREDICTOR)
        """Maps embeddings to predictions of other views' embeddings, of equal dimension."""

    def __init__(self, config: Config, *, backbone: Backbone, run: RunInfo) -> None:
        super().__init__(config, backbone=backbone, run=run)
        self.head = HEADS.build(config.head, input_dim=backbone.feature_dim)
        self.predictor = build_predictor(config.predictor, head=self.head)

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        """Returns the negative cosine similarity of predictions and embeddings, with stop-gradient on
        the embeddings."""
        features = encode(self.backbone, batch.views)  # (V * B, D)
        embeddings = self.head(features)  # (V * B, d)
        predictions = batch.by_view(self.predictor(embeddings))  # (V, B, d)
        cosine = mean_cosine(predictions, batch.by_view(embeddings)[: batch.n_global])
        return StepOutput(
            -cosine,
            features,
            lambda: {"cosine": float(cosine.detach())},
        )

    def param_groups(self) -> Iterable[dict[str, Any]]:
        """Returns two groups; the predictor's learning rate is constant (section 4.2, Table 1)."""
        predictor = list(self.predictor.parameters())
        own = {id(parameter) for parameter in predictor}
        others = [p for p in self.parameters() if p.requires_grad and id(p) not in own]
        return [{"params": others}, {"params": predictor, "constant_lr": True}]
