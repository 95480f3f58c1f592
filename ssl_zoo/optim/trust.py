"""The base class of LARS and LARC."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT

_SMALL = 1 << 18
"""Elements up to which a tensor takes longer to launch a kernel for than to multiply on a GPU."""


class LayerwiseOptimizer(Optimizer):
    """Updates parameters group by group; those without a gradient do not change.

    On a GPU, the update is made of operations on all tensors of a group together, and a loss scaler for fp16
    leaves to it what to do about gradients that are not finite, so that the host reads nothing. The order
    of operations differs from that on the CPU, and with it the last digit of the weights.

    Attributes:
        fused: whether updates are made as on a GPU.
        grad_scale: set by a loss scaler for the duration of a step: what gradients are multiples of, or None.
        found_inf: set by a loss scaler for the duration of a step: 1 if the step must change nothing.
    """

    grad_scale: Tensor | None
    found_inf: Tensor

    def __init__(self, params: ParamsT, defaults: dict[str, Any]) -> None:
        super().__init__(params, defaults)
        self.fused = any(w.device.type == "cuda" for g in self.param_groups for w in g["params"])
        self._step_supports_amp_scaling = self.fused  # torch's name for heeding `found_inf`
        self._repeats: dict[tuple[int, ...], Tensor] = {}

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Updates the parameters that have a gradient; `closure` recomputes the loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [w for w in group["params"] if w.grad is not None]
            if weights and self.fused:
                self._step_group_fused(weights, group)
            elif weights:
                self._step_group(weights, group)
        return loss

    def _step_group(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        raise NotImplementedError

    def _step_group_fused(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        raise NotImplementedError

    def _gradients(self, weights: list[Tensor]) -> list[Tensor]:
        """Returns the gradients of the loss itself, not of a multiple of it."""
        gradients = [w.grad for w in weights if w.grad is not None]
        scale = vars(self).get("grad_scale")
        return gradients if scale is None else [*torch._foreach_mul(gradients, scale.reciprocal())]

    def _descend(
        self, weights: list[Tensor], updates: list[Tensor], *, lr: float, momentum: float
    ) -> None:
        """Adds updates to the momentum buffers and subtracts these, times the rate, from the weights.

        Changes nothing if a loss scaler found gradients that are not finite.
        """
        torch._fused_sgd_(
            weights,
            updates,
            [self._buffer(w) for w in weights] if momentum else [],
            weight_decay=0.0,
            momentum=momentum,
            lr=lr,
            dampening=0.0,
            nesterov=False,
            maximize=False,
            is_first_step=False,
            grad_scale=None,
            found_inf=vars(self).get("found_inf"),
        )

    def _buffer(self, weight: Tensor) -> Tensor:
        """Returns the momentum buffer of a parameter, zeros at first."""
        state = self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        buffer: Tensor = state["momentum_buffer"]
        return buffer

    def _scale_each_(self, tensors: list[Tensor], factors: Tensor) -> None:
        """Multiplies each tensor in place by its factor of `(N,)`.

        Operations on lists of tensors of unlike shapes launch a kernel for each pair. Factors of small
        tensors are therefore repeated for each element.
        """
        sizes = [tensor.numel() if tensor.numel() <= _SMALL else 0 for tensor in tensors]
        key = tuple(sizes)
        if key not in self._repeats:
            self._repeats[key] = torch.tensor(sizes, device=factors.device)
        flat = factors.repeat_interleave(self._repeats[key], output_size=sum(sizes))
        small, repeated, start = [], [], 0
        for tensor, size in zip(tensors, sizes, strict=True):
            if size:
                small.append(tensor)
                repeated.append(flat.as_strided(tensor.size(), tensor.stride(), start))
                start += size
        if small:
            torch._foreach_mul_(small, repeated)
        large = [i for i, size in enumerate(sizes) if not size]
        if large:
            each = factors.unbind()
            torch._foreach_mul_([tensors[i] for i in large], [each[i] for i in large])


def norms(tensors: list[Tensor]) -> Tensor:
    """Returns the Euclidean norm of each tensor, `(N,)`, without synchronising with the device."""
    return torch.stack(list(torch._foreach_norm(tensors)))
