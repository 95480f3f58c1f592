"""LARC: layer-wise adaptive rates, the optimizer of SwAV's recipes."""

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.optim.optimizer import ParamsT

from ssl_zoo.config import NamedConfig
from ssl_zoo.optim.base import OPTIMIZERS
from ssl_zoo.optim.trust import LayerwiseOptimizer, norms


@OPTIMIZERS.register
class LARC(LayerwiseOptimizer):
    """SGD with each tensor's gradient scaled to a fraction of the norm of its weights.

    Equivalent to NVIDIA apex (apex/parallel/LARC.py) around SGD, by default with `clip=False`. It
    differs from LARS: no tensor is exempt, not even biases and normalisation layers; the learning
    rate is applied outside the momentum buffer; and a tensor whose weights or gradient are all zero
    keeps its unscaled gradient, without weight decay.

        g <- (g + wd w) * trust |w| / (|g| + wd |w| + eps)    if |w| and |g| are not 0
                          (with `clip`: that ratio over lr, at most 1)
        m <- momentum m + g
        w <- w - lr m

    Parameters without a gradient, and their momentum, do not change.
    """

    class Config(NamedConfig):
        """Settings of LARC; defaults from SwAV's scripts for a batch size of 256."""

        name: Literal["larc"] = "larc"
        lr: float = Field(default=0.6, gt=0, le=1000)
        """Peak learning rate."""
        momentum: float = Field(default=0.9, ge=0, lt=1)
        """Momentum: fraction of the previous update that is kept."""
        weight_decay: float = Field(default=1e-6, ge=0, le=10)
        """Multiple of the weights added to the gradient, inside the trust ratio."""
        trust_coefficient: float = Field(default=0.001, gt=0, le=1)
        """Norm of a scaled gradient as a fraction of the norm of the weights."""
        eps: float = Field(default=1e-8, ge=0, le=1)
        """Added to the denominator of the trust ratio."""
        clip: bool = False
        """apex's `clip=True`: the trust ratio can only shorten the step of plain SGD, never extend it."""

    def __init__(self, config: Config, *, params: ParamsT) -> None:
        super().__init__(params, config.model_dump(exclude={"name"}))

    def _step_group(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        lr, weight_decay = group["lr"], group["weight_decay"]
        gradients = [w.grad for w in weights if w.grad is not None]
        weight_norm, gradient_norm = norms(weights), norms(gradients)
        # `where` instead of `if`: reading a norm would synchronise with the device.
        scaled = (weight_norm != 0) & (gradient_norm != 0)
        ratio = (
            group["trust_coefficient"]
            * weight_norm
            / (gradient_norm + weight_decay * weight_norm + group["eps"])
        )
        if group["clip"]:
            ratio = (ratio / lr).clamp(max=1) if lr else torch.ones_like(ratio)
        ratio = ratio.where(scaled, 1)
        decay = torch.full_like(ratio, weight_decay).where(scaled, 0)
        updates = list(torch._foreach_mul(weights, list(decay.unbind())))
        torch._foreach_add_(updates, gradients)
        torch._foreach_mul_(updates, list(ratio.unbind()))
        if group["momentum"]:
            updates = self._with_momentum(weights, updates, group["momentum"])
        torch._foreach_add_(weights, updates, alpha=-lr)

    def _step_group_fused(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        lr, gradients = group["lr"], self._gradients(weights)
        weight_norm, gradient_norm = norms(weights), norms(gradients)
        decayed = gradient_norm + group["weight_decay"] * weight_norm
        ratio = group["trust_coefficient"] * weight_norm / (decayed + group["eps"])
        if group["clip"]:
            ratio = (ratio / lr).clamp(max=1) if lr else torch.ones_like(ratio)
        # Weights of zero do not decay; where the gradient is zero, 0 takes the weight decay out again.
        ratio = ratio.where(weight_norm != 0, 1).where(gradient_norm != 0, 0)
        updates = list(torch._foreach_add(gradients, weights, alpha=group["weight_decay"]))
        self._scale_each_(updates, ratio)
        self._descend(weights, updates, lr=lr, momentum=group["momentum"])

    def _with_momentum(
        self, weights: list[Tensor], updates: list[Tensor], momentum: float
    ) -> list[Tensor]:
        """Returns the buffers with updates added; a buffer is initialised with the first update."""
        buffers = []
        for weight, update in zip(weights, updates, strict=True):
            state = self.state[weight]
            if "momentum_buffer" in state:
                state["momentum_buffer"].mul_(momentum).add_(update)
            else:
                state["momentum_buffer"] = update
            buffers.append(state["momentum_buffer"])
        return buffers
