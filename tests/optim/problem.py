"""A few float64 parameters, their gradients, and steps of an optimizer on them."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ssl_zoo.optim.base import OPTIMIZERS
from ssl_zoo.optim.trust import LayerwiseOptimizer

LRS = (0.5, 2.0, 1.0, 0.3)


def parameters() -> list[nn.Parameter]:
    """Returns a matrix, a filter, a vector and a vector of zeros, as biases begin."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 4), (2, 3, 2, 2), (5,)]
    weights = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return [nn.Parameter(w) for w in (*weights, torch.zeros(4, dtype=torch.float64))]


def gradients(step: int) -> list[Tensor | None]:
    """Returns a step's gradients: the vector has none at step 0, the matrix a zero one at 1."""
    generator = torch.Generator().manual_seed(100 + step)
    grads: list[Tensor | None] = [
        torch.randn(w.shape, generator=generator, dtype=torch.float64) for w in parameters()
    ]
    if step == 0:
        grads[2] = None
    if step == 1:
        grads[0] = torch.zeros(3, 4, dtype=torch.float64)
    return grads


def build(
    weights: list[nn.Parameter], config: dict[str, Any], *, fused: bool = False
) -> torch.optim.Optimizer:
    """Returns a registered optimizer, layer-wise ones also with updates as on a GPU."""
    optimizer = OPTIMIZERS.build(config, params=[{"params": weights, "lr_scale": 1.0}])
    if fused:
        assert isinstance(optimizer, LayerwiseOptimizer)
        optimizer.fused = True
    return optimizer


def take_steps(
    optimizer: torch.optim.Optimizer, weights: list[nn.Parameter], steps: Iterable[int]
) -> None:
    """Steps with the learning rate and gradients of each step."""
    for step in steps:
        for group in optimizer.param_groups:
            group["lr"] = LRS[step]
        for weight, gradient in zip(weights, gradients(step), strict=True):
            weight.grad = gradient
        optimizer.step()
