"""MAE (He et al., 2022, "Masked autoencoders are scalable vision learners", arXiv:2111.06377), after
its text and the facts of facebookresearch/mae."""

from typing import ClassVar, Literal

from ssl_zoo.augmentations.masks import check_equal_counts, check_masked_run
from ssl_zoo.backbones.base import Backbone
from ssl_zoo.backbones.tokens import TokenBackbone, with_tokens
from ssl_zoo.config import NamedConfig, RunSettings
from ssl_zoo.losses.masked_pixels import (
    MaskedPixelLoss,
    MaskedPixelSettings,
    checked_masks,
    count_visible,
    explained_variance,
    take_tokens,
    visible_places,
)
from ssl_zoo.method import METHODS, Alarm, Batch, Method, RunInfo, StepOutput
from ssl_zoo.methods.mae.decoder import Decoder
from ssl_zoo.schedule import Progress


@METHODS.register
class MAE(Method):
    """Encodes a few patches of an image and predicts the pixels of the others."""

    paper: ClassVar[str] = "He et al., CVPR 2022, arXiv:2111.06377"
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
        """Settings of MAE; defaults are those of the released ImageNet models."""

        name: Literal["mae"] = "mae"
        norm_pixels: bool = True
        """Whether targets are normalised within each patch, as for all results of the paper;
        `--norm_pix_loss` in the authors' code, where it is off by default."""
        decoder: Decoder.Config = Decoder.Config()
        """The decoder, which is discarded after training."""

        def check(self, run: RunSettings) -> None:
            """Raises `ValueError` if there are no masks, or the backbone cannot drop patches."""
            check_masked_run(run)
            check_equal_counts(run)

    def __init__(self, config: Config, *, backbone: Backbone, run: RunInfo) -> None:
        tokens = with_tokens(backbone, method=config.name, drops=True)
        super().__init__(config, backbone=tokens, run=run)
        side = run.image_size // tokens.patch_size
        self.decoder = Decoder(
            config.decoder,
            input_dim=tokens.width,
            output_dim=tokens.in_channels * tokens.patch_size**2,
            grid=(side, side),
        )
        loss = MaskedPixelSettings(norm_pixels=config.norm_pixels, error="squared")
        self.loss = MaskedPixelLoss(loss, patch_size=tokens.patch_size)
        self._n_visible: int | None = None

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        """Returns the squared error on the hidden patches of the first view; others are ignored."""
        images = batch.views[0][0]  # (B, C, H, W)
        targets = self.loss.targets(images)  # (B, L, P)
        hidden = checked_masks(batch.masks, targets.shape[1])  # (B, L)
        if self._n_visible is None:
            self._n_visible = count_visible(hidden)  # the same for every batch of a run
        places = visible_places(hidden, self._n_visible)  # (B, V)
        tokens = self.backbone.embed(images) + self.backbone.positions(images)
        encoded = self.backbone.encode(take_tokens(tokens, places))  # (B, prefix + V, D)
        predicted = self.decoder(encoded, places)  # (B, L, P)
        return StepOutput(
            self.loss(predicted, targets, hidden),
            self.backbone.pool(encoded.detach()),
            lambda: {"explained_variance": explained_variance(predicted, targets, hidden)},
        )
