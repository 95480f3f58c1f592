"""What iBOT and DINOv2 share: a student sees global crops with hidden patches, its momentum teacher all of
them, and predicts the teacher's distributions of class tokens and of hidden patches.

iBOT (Zhou et al., 2022, arXiv:2111.07832; facts of bytedance/ibot) and DINOv2 (Oquab et al., 2023,
arXiv:2304.07193; facts of facebookresearch/dinov2), on the class-token loss of DINO (Caron et al., 2021,
arXiv:2104.14294).
"""

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ssl_zoo.augmentations.masks import check_masked_run
from ssl_zoo.backbones.base import Backbone
from ssl_zoo.backbones.tokens import TokenBackbone, with_tokens
from ssl_zoo.config import NamedConfig, RunSettings, default
from ssl_zoo.errors import UserError
from ssl_zoo.heads.prototype_head import PrototypeHead, PrototypeHeadConfig
from ssl_zoo.losses.masked_tokens import checked_global_masks, masked_cross_entropy, places_of
from ssl_zoo.losses.swapped_prediction import swapped_prediction
from ssl_zoo.memory.centering import MeanCentering, SinkhornCentering, target_metrics
from ssl_zoo.memory.counts import clusters_of
from ssl_zoo.method import Alarm, Batch, Method, RunInfo, StepOutput
from ssl_zoo.schedule import Duration, Progress, Ramp, Share, within
from ssl_zoo.teacher import Teacher


class MaskedDistillation(Method):
    """Predicts a momentum teacher's distributions over prototypes, of other views and of hidden patches."""

    backbone: TokenBackbone
    alarms: ClassVar[tuple[Alarm, ...]] = (
        Alarm(
            metric="teacher_entropy",
            above=0.99,
            patience=5,
            advice="the teacher's output is nearly uniform: lower method.teacher_temperature, "
            "or freeze prototypes longer (method.freeze_prototypes)",
        ),
        Alarm.at_chance(
            "lower method.teacher_temperature, lower optimizer.lr, or lengthen schedule.warmup"
        ),
        Alarm(
            metric="mean_target_entropy",
            below=0.1,
            advice="one prototype gets nearly all images: raise method.teacher_temperature, or set "
            "method.centering=sinkhorn",
        ),
    )

    class Config(NamedConfig):
        """Settings of masked self-distillation; defaults that the two methods share."""

        head: PrototypeHeadConfig = PrototypeHeadConfig()
        """Head between class tokens and scores, of the student and of the teacher."""
        shared_head: bool = True
        """Whether patches use the head of class tokens; else they have one of the same settings."""
        momentum: Share = Ramp(start=0.996, end=1.0)
        """Momentum of the teacher: fraction of its weights that a step keeps."""
        student_temperature: float = Field(default=0.1, ge=0.01, le=10)
        """Temperature of the student; divides its scores."""
        teacher_temperature: Annotated[Ramp, within(0.001, 10)] = Ramp(
            start=0.04, end=0.07, shape="linear", over=Duration(value=30, unit="epochs")
        )
        """Temperature of the teacher, for class tokens and patches; a lower one sharpens the targets."""
        centering: Literal["mean", "sinkhorn"] = "mean"
        """How to prevent one prototype from getting all images: subtract a running mean, or balance
        codes."""
        center_momentum: float = Field(default=0.9, ge=0, lt=1)
        """Momentum of the centres: fraction of the running mean that a step keeps."""
        sinkhorn_iterations: int = Field(default=3, ge=1, le=100)
        """Number of Sinkhorn iterations for balanced codes."""
        freeze_prototypes: Duration = default("1 epoch")
        """Initial duration in which the student's prototypes are frozen."""
        class_weight: float = Field(default=1.0, ge=0, le=100)
        """Weight of the loss of class tokens."""
        patch_weight: float = Field(default=1.0, ge=0, le=100)
        """Weight of the loss of hidden patches."""

        def check(self, run: RunSettings) -> None:
            """Raises `ValueError` if not all global crops are masked, or the backbone has no tokens."""
            check_masked_run(run, views="global")
            if self.head.batch_norm:
                raise ValueError(
                    "method.head.batch_norm=true normalises over hidden patches, whose number differs from "
                    "step to step; set it to false"
                )

    @classmethod
    def fitted(cls, config: Any, run: RunInfo) -> dict[str, tuple[Any, str]]:
        """Returns the number of prototypes for the number of images; see `Method.fitted`."""
        return {"head.n_prototypes": clusters_of(run, images=4)}

    def __init__(self, config: Any, *, backbone: Backbone, run: RunInfo) -> None:
        tokens = with_tokens(backbone, method=config.name)
        super().__init__(config, backbone=tokens, run=run)
        self.mask_token = nn.Parameter(torch.zeros(tokens.width))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        names = ["tokens"] if config.shared_head else ["tokens", "patches"]
        widths = {"tokens": tokens.feature_dim, "patches": tokens.width}
        if config.shared_head and tokens.feature_dim != tokens.width:
            raise UserError(
                f"features of {tokens.feature_dim} and tokens of {tokens.width} numbers cannot share a head; "
                "set method.shared_head=false"
            )
        self.heads = nn.ModuleDict(
            {name: PrototypeHead(config.head, input_dim=widths[name]) for name in names}
        )
        self.teacher = Teacher(tokens, self.heads)
        self.targets = self._centering()
        self.patch_targets = self._centering()

    def forward(self, batch: Batch, progress: Progress) -> StepOutput:
        """Returns the weighted sum of the losses of class tokens and of hidden patches."""
        images = batch.views[0].flatten(0, 1)  # (N, C, H, W) with N = V_g * B
        embedded = self.backbone.embed(images)
        hidden = checked_global_masks(batch.masks, batch.n_global, embedded.shape[1])  # (N, L)
        assert batch.n_hidden is not None
        rows = places_of(hidden, int(batch.n_hidden[:, : batch.n_global].sum()))  # (n,)
        tokens = torch.where(hidden[..., None], self.mask_token.to(embedded.dtype), embedded)
        encoded = self.backbone.encode(tokens + self.backbone.positions(images))
        local = [self.backbone(group.flatten(0, 1)) for group in batch.views[1:]]
        features = torch.cat([self.backbone.pool(encoded), *local])  # (V * B, D)
        scores = batch.by_view(self.heads["tokens"](features))  # (V, B, K)
        patch_scores = self._patch_head(self.heads)(self._patches(encoded)[rows])  # (n, K)

        targets, patch_targets = self._targets(images, rows, progress)
        targets, cooled = batch.by_view(targets), self.config.student_temperature  # (V_g, B, K)
        loss = swapped_prediction(scores, targets, temperature=cooled)
        patch_loss = masked_cross_entropy(
            patch_scores, patch_targets, hidden, rows, temperature=cooled
        )
        total = self.config.class_weight * loss + self.config.patch_weight * patch_loss
        return StepOutput(
            self.regularized(total, batch.by_view(features)[: batch.n_global]),
            features,
            lambda: {**target_metrics(loss, targets), "patch_loss": float(patch_loss.detach())},
        )

    def regularized(self, loss: Tensor, features: Tensor) -> Tensor:
        """Returns the loss with what a method adds to it.

        Args:
            loss: scalar.
            features: of the student's global crops, `(V_g, B, D)`.
        """
        return loss

    @torch.no_grad()
    def _targets(self, images: Tensor, rows: Tensor, progress: Progress) -> tuple[Tensor, Tensor]:
        """Returns the teacher's distributions for class tokens `(N, K)` and for hidden patches `(n, K)`."""
        temperature = self.config.teacher_temperature.at(progress)
        backbone, heads = self.teacher.backbone, self.teacher.head
        assert isinstance(backbone, TokenBackbone)
        encoded = backbone.encode(backbone.embed(images) + backbone.positions(images))
        scores = heads.get_submodule("tokens")(backbone.pool(encoded))
        patches, patch_head = self._patches(encoded), self._patch_head(heads)
        if isinstance(self.patch_targets, MeanCentering):  # its mean is over all patches
            of_patches = self.patch_targets(
                patch_head(patches), temperature=temperature, rows=rows
            )
        else:
            of_patches = self.patch_targets(patch_head(patches[rows]), temperature=temperature)
        return self.targets(scores, temperature=temperature), of_patches

    def _patches(self, encoded: Tensor) -> Tensor:
        """Returns the tokens of patches of what `encode` returns, `(N * L, width)`."""
        return encoded[:, self.backbone.n_prefix :].flatten(0, 1)

    def _patch_head(self, heads: nn.Module) -> nn.Module:
        return heads.get_submodule("tokens" if self.config.shared_head else "patches")

    def _centering(self) -> MeanCentering | SinkhornCentering:
        config = self.config
        if config.centering == "mean":
            return MeanCentering(config.head.n_prototypes, momentum=config.center_momentum)
        return SinkhornCentering(config.sinkhorn_iterations)

    def frozen(self, progress: Progress) -> Iterable[nn.Parameter]:
        """Returns the student's prototypes as long as they are frozen."""
        steps = self.config.freeze_prototypes.steps(progress.steps_per_epoch)
        if progress.step >= steps:
            return []
        return [head.get_parameter("prototypes") for head in self.heads.values()]

    def durations(self) -> dict[str, Duration]:
        """Returns how long prototypes are frozen."""
        return {"freeze_prototypes": self.config.freeze_prototypes}

    def after_step(self, progress: Progress) -> None:
        """Updates the teacher."""
        momentum = self.config.momentum.at(progress)
        self.teacher.follow(self.backbone, self.heads, momentum=momentum)

    def layers(self) -> dict[str, nn.Module]:
        """Returns the teacher's head of class tokens, which ends in prototypes."""
        return {"prototypes": self.teacher.head.get_submodule("tokens")}

    @property
    def exported(self) -> Backbone:
        """The teacher's backbone."""
        backbone = self.teacher.backbone
        assert isinstance(backbone, Backbone)
        return backbone
