"""Barlow Twins (Zbontar et al., 2021, arXiv:2103.03230) without its recipes, as an example."""

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field

from ssl_zoo import distributed
from ssl_zoo.backbones.base import Backbone
from ssl_zoo.config import NamedConfig, default
from ssl_zoo.heads.base import HEADS
from ssl_zoo.method import METHODS, Batch, Method, RunInfo, StepOutput, encode
from ssl_zoo.schedule import Progress


@METHODS.register
class BarlowSketch(Method):
    """Makes the embeddings of two views agree in each coordinate, and coordinates differ."""

    paper: ClassVar[str] = "Zbontar et al., ICML 2021, arXiv:2103.03230"

    class Config(NamedConfig):
        """Settings of the sketch."""

        name: Literal["barlow_sketch"] = "barlow_sketch"
        head: Annotated[NamedConfig, HEADS] = default("mlp")
        """Projection head between features and embeddings."""
        redundancy: float = Field(default=0.005, gt=0, le=1)
        """Weight of the correlations between coordinates (lambda in section 2 of the paper)."""

    def __init__(self, config: Config, *, backbone: Backbone, run: RunInfo) -> None:
        super().__init__(config, backbone=backbone, run=run)
        self.head = HEADS.build(config.head, input_dim=backbone.feature_dim)

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        """Returns the loss of the first two global views over all ranks' images."""
        features = encode(self.backbone, batch.views)  # (V * B, D)
        embeddings = self.head(features[: 2 * batch.n_images]).float()  # (2 * B, d)
        one, two = (standardize(distributed.gather(view)) for view in embeddings.chunk(2))
        correlation = one.T @ two / len(one)  # (d, d)
        difference = (correlation - torch.eye(len(correlation), device=one.device)) ** 2
        agreement = difference.diagonal().sum()
        loss = agreement + self.config.redundancy * (difference.sum() - agreement)
        return StepOutput(loss, features)


def standardize(embeddings: torch.Tensor) -> torch.Tensor:
    """Returns embeddings `(N, d)` whose coordinates have mean 0 and variance 1 over the batch."""
    centred = embeddings - embeddings.mean(dim=0)
    return centred / (centred.var(dim=0, correction=0) + 1e-5).sqrt()
