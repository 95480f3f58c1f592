"""The discrete VAE of DALL-E (Ramesh et al., 2021, "Zero-shot text-to-image generation", arXiv:2102.12092),
after its text and the facts of openai/DALL-E, which has no training code."""

from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from ssl_zoo.augmentations import random
from ssl_zoo.backbones.base import BACKBONES, Backbone
from ssl_zoo.backbones.conv_tokenizer import ConvTokenizer, embed_codes
from ssl_zoo.config import NamedConfig, RunSettings
from ssl_zoo.errors import UserError
from ssl_zoo.losses.soft_codes import (
    code_use,
    divergence_from_uniform,
    logit_laplace,
    soft_codes,
    unsqueezed,
)
from ssl_zoo.method import METHODS, Alarm, Batch, Method, Metrics, RunInfo, StepOutput
from ssl_zoo.methods.dvae.decoder import Decoder
from ssl_zoo.schedule import Duration, Progress, Ramp, within

_NEEDS = "learns the codes of a tokenizer; set backbone=conv_tokenizer"


@METHODS.register
class DVAE(Method):
    """Learns a code for each patch from which a decoder restores the image."""

    paper: ClassVar[str] = "Ramesh et al., ICML 2021, arXiv:2102.12092"
    min_global: ClassVar[int] = 1
    backbone: ConvTokenizer
    alarms: ClassVar[tuple[Alarm, ...]] = (
        Alarm(
            metric="code_perplexity",
            below=2.0,
            patience=5,
            advice="nearly all patches have the same code: raise method.kl_weight, keep "
            "method.temperature high for longer, or lower optimizer.lr",
        ),
        Alarm(
            metric="explained_variance",
            below=0.01,
            patience=20,
            advice="images are restored no better than by a constant: raise optimizer.lr, or lower "
            "method.kl_weight",
        ),
    )

    class Config(NamedConfig):
        """Settings of the discrete VAE; defaults are the paper's (appendix A.2)."""

        name: Literal["dvae"] = "dvae"
        error: Literal["squared", "logit_laplace"] = "squared"
        """Error of restored pixels: the squared one of normalised pixels, or the paper's, the negative log
        likelihood of a logit-Laplace distribution, whose scale the decoder predicts too."""
        temperature: Annotated[Ramp, within(0.001, 100)] = Ramp(
            start=1.0, end=1 / 16, over=Duration(value=150_000, unit="steps")
        )
        """Temperature of the Gumbel softmax: lower ones make the decoder's codes nearly one-hot."""
        kl_weight: Annotated[Ramp, within(0, 1000)] = Ramp(
            start=0.0, end=6.6 / 192, over=Duration(value=5000, unit="steps")
        )
        """Weight of the mean over patches of KL(codes || uniform), beside the mean error over pixels and
        channels. The paper sums both over the image and has 6.6, which is 6.6 / 192 here: 192 numbers of a
        patch of 8x8 pixels have one code."""

        def check(self, run: RunSettings) -> None:
            """Raises `ValueError` if the backbone has no codes that this method can train."""
            if not issubclass(BACKBONES[run.backbone.name], ConvTokenizer):
                raise ValueError(f"method '{self.name}' {_NEEDS}")

    def __init__(self, config: Config, *, backbone: Backbone, run: RunInfo) -> None:
        if not isinstance(backbone, ConvTokenizer):
            raise UserError(f"method '{config.name}' {_NEEDS}")
        super().__init__(config, backbone=backbone, run=run)
        self.decoder = Decoder(backbone.config, outputs=backbone.in_channels * self._outputs)
        for name, values in (("mean", run.mean), ("std", run.std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)
        self.mean: Tensor
        self.std: Tensor
        if config.error == "logit_laplace" and len(run.mean) != backbone.in_channels:
            raise UserError(
                "method.error=logit_laplace needs the mean and std by which images are normalised, and this "
                "run does not say; use error=squared"
            )
        self.noise_key: Tensor
        self.register_buffer("noise_key", torch.randint(2**62, ()))

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        """Returns the error of restored pixels and the divergence of the first view; others are ignored."""
        images = batch.views[0][0]  # (B, C, H, W)
        maps = self.backbone.maps(images)  # (B, D, h, w)
        scores = self.backbone.scores(maps)  # (B, K, h, w)
        temperature = self.config.temperature.at(progress)
        uniform = self._uniform(batch.index, progress, scores)
        codes = soft_codes(scores, uniform, temperature=temperature)
        restored = self.decoder(embed_codes(codes, self.backbone.codebook))  # (B, C, H, W)
        error, explained = self._error(restored, images)
        divergence = divergence_from_uniform(scores)
        loss = error + self.config.kl_weight.at(progress) * divergence

        def metrics() -> Metrics:
            return {
                "explained_variance": float(explained.detach()),
                "kl": float(divergence.detach()),
                "temperature": temperature,
                **code_use(scores.argmax(dim=1), self.backbone.n_codes),
            }

        return StepOutput(loss, self.backbone.pool(maps.detach()), metrics)

    @property
    def _outputs(self) -> int:
        """Numbers that the decoder predicts for each pixel and channel."""
        return 2 if self.config.error == "logit_laplace" else 1

    def _error(self, restored: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the error of restored pixels, and the part of the pixels' variance in the batch that is
        restored, both scalars."""
        exact = torch.promote_types(restored.dtype, torch.float32)
        wanted, found = images.to(exact), restored.to(exact)
        if self.config.error == "squared":
            error = functional.mse_loss(found, wanted)
        else:
            wanted = (wanted * self.std + self.mean).clamp(0, 1)
            location, log_scale = found.chunk(2, dim=1)
            error = logit_laplace(wanted, location, log_scale)
            found = unsqueezed(location.sigmoid())
        lost = functional.mse_loss(found.detach(), wanted) / wanted.var().clamp(min=1e-12)
        return error, 1 - lost

    def _uniform(self, index: Tensor, progress: Progress, scores: Tensor) -> Tensor:
        """Returns random numbers `(B, K, h, w)` that depend on the run, the step and the image, but not on
        which rank has the image."""
        step_key = random.mix(self.noise_key + progress.step)
        keys = random.split_keys(random.mix(step_key + index), scores[0].numel())  # (K * h * w, B)
        return random.uniform(keys, 0).t().view(scores.shape)

    def durations(self) -> dict[str, Duration]:
        """Returns the lengths of the ramps."""
        ramps = {
            "temperature.over": self.config.temperature,
            "kl_weight.over": self.config.kl_weight,
        }
        return {name: ramp.over for name, ramp in ramps.items() if ramp.over is not None}
