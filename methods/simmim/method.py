"""SimMIM (Xie et al., 2022, "SimMIM: a simple framework for masked image modeling",
arXiv:2111.09886), after its text and the facts of microsoft/SimMIM."""

from typing import ClassVar, Literal

import torch
from torch import nn

from ssl_zoo.augmentations.masks import check_masked_run
from ssl_zoo.backbones.base import Backbone
from ssl_zoo.backbones.tokens import TokenBackbone, with_tokens
from ssl_zoo.config import NamedConfig, RunSettings
from ssl_zoo.losses.masked_pixels import (
    MaskedPixelLoss,
    MaskedPixelSettings,
    checked_masks,
    explained_variance,
)
from ssl_zoo.method import METHODS, Alarm, Batch, Method, RunInfo, StepOutput
from ssl_zoo.schedule import Progress


@METHODS.register
class SimMIM(Method):
    """Replaces hidden patches with a learnt mask token and predicts their pixels from the output."""

    paper: ClassVar[str] = "Xie et al., CVPR 2022, arXiv:2111.09886"
    min_global: ClassVar[int] = 1
    backbone: TokenBackbone
    alarms: ClassVar[tuple[Alarm, ...]] = (
        Alarm(
            metric="explained_variance",
            below=0.01,
            patience=20,
            advice="predictions are no better than a constant: raise optimizer.lr, or lower it if the "
            "loss jumps, or hide less (augmentation.mask.ratio)",
        ),
    )

    class Config(NamedConfig):
        """Settings of SimMIM; defaults are the paper's."""

        name: Literal["simmim"] = "simmim"
        norm_pixels: bool = False
        """Whether targets are normalised within each patch, which is not in the paper."""

        def check(self, run: RunSettings) -> None:
            """Raises `ValueError` if there are no masks, or the backbone does not support them."""
            check_masked_run(run)

    def __init__(self, config: Config, *, backbone: Backbone, run: RunInfo) -> None:
        tokens = with_tokens(backbone, method=config.name)
        super().__init__(config, backbone=tokens, run=run)
        self.mask_token = nn.Parameter(torch.zeros(tokens.width))
        nn.init.trunc_normal_(self.mask_token, std=0.02, a=-0.02, b=0.02)
        self.head = nn.Linear(tokens.width, tokens.in_channels * tokens.patch_size**2)
        loss = MaskedPixelSettings(norm_pixels=config.norm_pixels, error="absolute")
        self.loss = MaskedPixelLoss(loss, patch_size=tokens.patch_size)

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        """Returns the absolute error on the hidden patches of the first view; others are ignored."""
        images = batch.views[0][0]  # (B, C, H, W)
        targets = self.loss.targets(images)  # (B, L, P)
        hidden = checked_masks(batch.masks, targets.shape[1])  # (B, L)
        tokens = torch.where(hidden[..., None], self.mask_token, self.backbone.embed(images))
        encoded = self.backbone.encode(tokens + self.backbone.positions(images))
        predicted = self.head(encoded[:, self.backbone.n_prefix :])  # (B, L, P)
        return StepOutput(
            self.loss(predicted, targets, hidden),
            self.backbone.pool(encoded.detach()),
            lambda: {"explained_variance": explained_variance(predicted, targets, hidden)},
        )
