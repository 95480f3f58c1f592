"""LeJEPA (Balestriero and LeCun, 2025, "LeJEPA: provable and scalable self-supervised learning without
the heuristics", arXiv:2511.08544), from its formulas."""

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field

from ssl_zoo.backbones.base import Backbone
from ssl_zoo.config import NamedConfig, default
from ssl_zoo.heads.base import HEADS
from ssl_zoo.method import METHODS, Alarm, Batch, Method, RunInfo, StepOutput, encode
from ssl_zoo.methods.lejepa.loss import random_directions, sigreg
from ssl_zoo.schedule import Progress

_HEAD = {"name": "mlp", "hidden_dims": [2048, 2048], "output_dim": 128, "hidden_bias": False}


@METHODS.register
class LeJEPA(Method):
    """Makes views of an image agree, while embeddings of all images are normally distributed."""

    paper: ClassVar[str] = "Balestriero and LeCun, 2025, arXiv:2511.08544"
    alarms: ClassVar[tuple[Alarm, ...]] = (
        Alarm(
            metric="spread",
            below=0.1,
            patience=5,
            advice="embeddings of different images are nearly equal: raise method.weight, or lower "
            "optimizer.lr",
        ),
    )

    class Config(NamedConfig):
        """Settings of LeJEPA; the weight is the paper's."""

        name: Literal["lejepa"] = "lejepa"
        head: Annotated[NamedConfig, HEADS] = default(_HEAD)
        """Projection head between features and embeddings; embeddings have 16 to 512 numbers in the
        authors' settings."""
        weight: float = Field(default=0.05, gt=0, lt=1)
        """Weight of the test for normality, and of the distance between views what is left to 1: lambda
        in the paper."""
        n_directions: int = Field(default=1024, ge=1)
        """Number of random directions, which change in each step."""
        knots: int = Field(default=17, ge=3, le=1000)
        """Number of knots of the integral."""
        limit: float = Field(default=3.0, ge=1, le=100)
        """Where the integral ends, on both sides of 0."""

    def __init__(self, config: Config, *, backbone: Backbone, run: RunInfo) -> None:
        super().__init__(config, backbone=backbone, run=run)
        self.head = HEADS.build(config.head, input_dim=backbone.feature_dim)

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        """Returns the weighted distance to the mean of global views and test over all ranks' images."""
        config = self.config
        features = encode(self.backbone, batch.views)  # (V * B, D)
        embeddings = batch.by_view(self.head(features)).float()  # (V, B, d)
        # The same on all ranks and devices, and in a run that was resumed.
        generator = torch.Generator().manual_seed(progress.step)
        directions = random_directions(
            embeddings.shape[2], config.n_directions, generator=generator
        )
        directions = directions.to(embeddings.device, non_blocking=True)
        normality = sigreg(embeddings, directions, knots=config.knots, limit=config.limit)
        distance = (embeddings[: batch.n_global].mean(dim=0) - embeddings).square().mean()
        return StepOutput(
            config.weight * normality + (1 - config.weight) * distance,
            features,
            lambda: {
                "sigreg": float(normality.detach()),
                "distance": float(distance.detach()),
                "spread": float(embeddings.detach().std(dim=1, correction=0).mean()),
            },
        )
