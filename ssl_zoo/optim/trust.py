"""The base class of LARS and LARC."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer


class LayerwiseOptimizer(Optimizer):
    """Updates parameters group by group; those without a gradient do not change."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Updates the parameters that have a gradient; `closure` recomputes the loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [w for w in group["params"] if w.grad is not None]
            if weights:
                self._step_group(weights, group)
        return loss

    def _step_group(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        raise NotImplementedError


def norms(tensors: list[Tensor]) -> Tensor:
    """Returns the Euclidean norm of each tensor, `(N,)`, without synchronising with the device."""
    return torch.stack(list(torch._foreach_norm(tensors)))
