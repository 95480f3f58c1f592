"""DINOv2 (Oquab et al., 2023, "DINOv2: learning robust visual features without supervision",
arXiv:2304.07193), after its text and the facts of facebookresearch/dinov2 (commit b8931f7)."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from ssl_zoo.losses.spread import koleo
from ssl_zoo.masked_distillation import MaskedDistillation
from ssl_zoo.method import METHODS
from ssl_zoo.schedule import Ramp, Share


@METHODS.register
class DINOv2(MaskedDistillation):
    """Adds balanced codes, heads of their own and a penalty on close embeddings to iBOT's two losses."""

    paper: ClassVar[str] = "Oquab et al., TMLR 2024, arXiv:2304.07193"

    class Config(MaskedDistillation.Config):
        """Settings of DINOv2; defaults are those of its long runs."""

        name: Literal["dinov2"] = "dinov2"
        shared_head: bool = False
        """Whether patches use the head of class tokens; else they have one of the same settings."""
        centering: Literal["mean", "sinkhorn"] = "sinkhorn"
        """How to prevent one prototype from getting all images: subtract a running mean, or balance
        codes."""
        momentum: Share = Ramp(start=0.992, end=1.0)
        """Momentum of the teacher: fraction of its weights that a step keeps."""
        koleo_weight: float = Field(default=0.1, ge=0, le=100)
        """Weight of the penalty on features that are close to their nearest neighbour."""

    def regularized(self, loss: Tensor, features: Tensor) -> Tensor:
        """Returns the loss with the weighted penalty of each global crop."""
        if not self.config.koleo_weight:
            return loss
        penalty = torch.stack([koleo(view) for view in features]).sum()
        total: Tensor = loss + self.config.koleo_weight * penalty
        return total
