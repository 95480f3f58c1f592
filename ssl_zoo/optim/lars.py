"""LARS: layer-wise adaptive rate scaling (You et al., 2017, arXiv:1708.03888)."""

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.optim.optimizer import ParamsT

from ssl_zoo.config import NamedConfig
from ssl_zoo.optim.base import OPTIMIZERS
from ssl_zoo.optim.trust import LayerwiseOptimizer, norms


@OPTIMIZERS.register
class LARS(LayerwiseOptimizer):
    """SGD with a learning rate per tensor, proportional to the ratio of weight to gradient norm.

    Algorithm 1 of the paper; the learning rate goes into the momentum buffer:

        m <- momentum m + lr * trust |w| / (|g| + wd |w|) * (g + wd w)
        w <- w - m

    A tensor whose weights or gradient are all zero has a ratio of one. Parameters without a
    gradient, and their momentum, do not change.
    """

    class Config(NamedConfig):
        """Settings of LARS; defaults from SimCLR (arXiv:2002.05709) for a batch size of 256."""

        name: Literal["lars"] = "lars"
        lr: float = Field(default=0.3, gt=0, le=1000)
        """Peak learning rate."""
        momentum: float = Field(default=0.9, ge=0, lt=1)
        """Momentum: fraction of the previous step that is kept."""
        weight_decay: float = Field(default=1e-6, ge=0, le=10)
        """Multiple of the weights added to the gradient, inside the trust ratio."""
        trust_coefficient: float = Field(default=0.001, gt=0, le=1)
        """Norm of a step as a fraction of the norm of the weights, at a learning rate of one."""
        exclude_1d: bool = True
        """Whether to exempt biases and normalisation layers from trust ratio and weight decay (SimCLR)."""

    def __init__(self, config: Config, *, params: ParamsT) -> None:
        super().__init__(params, config.model_dump(exclude={"name"}))

    def _step_group(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        adapted = [w for w in weights if w.ndim > 1 or not group["exclude_1d"]]
        plain = [w for w in weights if w.ndim <= 1 and group["exclude_1d"]]
        if adapted:
            updates = _adapted(
                adapted,
                weight_decay=group["weight_decay"],
                trust_coefficient=group["trust_coefficient"],
            )
            self._move(adapted, updates, lr=group["lr"], momentum=group["momentum"])
        if plain:
            updates = [w.grad for w in plain if w.grad is not None]
            self._move(plain, updates, lr=group["lr"], momentum=group["momentum"])

    def _step_group_fused(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        lr, gradients = group["lr"], self._gradients(weights)
        weight_norm, gradient_norm = norms(weights), norms(gradients)
        decayed = gradient_norm + group["weight_decay"] * weight_norm
        ratio = group["trust_coefficient"] * weight_norm / decayed
        ratio = ratio.where((weight_norm != 0) & (gradient_norm != 0), 1) * lr
        adapted = [i for i, w in enumerate(weights) if w.ndim > 1 or not group["exclude_1d"]]
        plain = [i for i, w in enumerate(weights) if w.ndim <= 1 and group["exclude_1d"]]
        updates: list[Tensor] = []
        if adapted:
            own = [weights[i] for i in adapted]
            updates += torch._foreach_add(
                [gradients[i] for i in adapted], own, alpha=group["weight_decay"]
            )
            each = ratio.unbind()
            self._scale_each_(updates, torch.stack([each[i] for i in adapted]))
        if plain:
            updates += torch._foreach_mul([gradients[i] for i in plain], lr)
        moved = [weights[i] for i in (*adapted, *plain)]
        self._descend(moved, updates, lr=1.0, momentum=group["momentum"])

    def _move(
        self, weights: list[Tensor], updates: list[Tensor], *, lr: float, momentum: float
    ) -> None:
        buffers = []
        for weight, update in zip(weights, updates, strict=True):
            state = self.state[weight]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(weight)
            buffers.append(state["momentum_buffer"].mul_(momentum).add_(update, alpha=lr))
        torch._foreach_sub_(weights, buffers)


def _adapted(
    weights: list[Tensor], *, weight_decay: float, trust_coefficient: float
) -> list[Tensor]:
    """Returns gradients with weight decay, multiplied by their trust ratio."""
    gradients = [w.grad for w in weights if w.grad is not None]
    weight_norm, gradient_norm = norms(weights), norms(gradients)
    ratio = trust_coefficient * weight_norm / (gradient_norm + weight_decay * weight_norm)
    # `where` instead of `if`: reading a norm would synchronise with the device.
    ratio = ratio.where((weight_norm != 0) & (gradient_norm != 0), 1)
    updates = torch._foreach_add(gradients, weights, alpha=weight_decay)
    torch._foreach_mul_(updates, list(ratio.unbind()))
    return list(updates)
