"""Swapped prediction: each view predicts the codes of the other global views of its image.

SwAV (Caron et al., 2020, arXiv:2006.09882), equations 2 and 6.
"""

import math
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ssl_zoo.assignment.sinkhorn import sinkhorn
from ssl_zoo.config import Config

_CHUNK_ELEMENTS = 1 << 17
"""Number of scores per chunk on the CPU: half a megabyte of float32, which fits the cache."""


class SwapSettings(Config):
    """Settings of swapped prediction; defaults from SwAV's training scripts."""

    temperature: float = Field(default=0.1, ge=0.01, le=10)
    """Temperature of predictions; divides the scores."""
    epsilon: float = Field(default=0.05, ge=0.001, le=10)
    """Entropy regularisation of the codes; smaller values give sharper codes."""
    sinkhorn_iterations: int = Field(default=3, ge=1, le=100)
    """Number of Sinkhorn iterations, each of which normalises over prototypes and samples."""


class SwappedPredictionLoss(nn.Module):
    """SwAV's loss: the codes of global views are predicted from all other views.

    Args:
        config: settings that include those of swapped prediction, such as a method's.
    """

    def __init__(self, config: SwapSettings) -> None:
        super().__init__()
        self.config = config

    def forward(self, scores: Tensor, n_global: int, queue_scores: Tensor | None = None) -> Tensor:
        """Returns the loss, a scalar with gradient.

        Args:
            scores: `(V, B, K)`, similarity of views and prototypes; global views first.
            n_global: number of global views.
            queue_scores: `(n_global, Q, K)`, scores of earlier samples to include when computing codes.
        """
        codes = self.codes(scores, n_global, queue_scores)
        return swapped_prediction(scores, codes, temperature=self.config.temperature)

    def codes(self, scores: Tensor, n_global: int, queue_scores: Tensor | None = None) -> Tensor:
        """Returns the codes of the global views, `(n_global, B, K)`, without gradient.

        Each view is a separate problem. Arguments as in `forward`.

        Raises:
            ValueError: `n_global` does not fit the views, or the queues do not fit `n_global`.
        """
        if not 1 <= n_global <= len(scores):
            raise ValueError(f"n_global of {n_global} does not fit {len(scores)} views")
        if queue_scores is not None and len(queue_scores) != n_global:
            raise ValueError(f"{len(queue_scores)} queues do not fit {n_global} global views")
        return torch.stack(
            [
                sinkhorn(
                    [scores[i]] if queue_scores is None else [scores[i], queue_scores[i]],
                    epsilon=self.config.epsilon,
                    n_iterations=self.config.sinkhorn_iterations,
                    n_codes=scores.shape[1],
                )
                for i in range(n_global)
            ]
        )


def swapped_prediction(scores: Tensor, codes: Tensor, *, temperature: float) -> Tensor:
    """Returns the cross entropy between codes and the predictions of all other views, a scalar.

    The mean over global views of the mean over other views: SwAV, equation 6. Computed in float32 or
    float64. Supports first derivatives only, and none with respect to the codes.

    Args:
        scores: `(V, B, K)`; views with codes come first.
        codes: `(n_global, B, K)`; rows sum to one.
        temperature: divides the scores.

    Raises:
        ValueError: shapes do not match, or there is no other view.
    """
    if scores.ndim != 3 or codes.shape[1:] != scores.shape[1:]:
        raise ValueError(
            f"scores {tuple(scores.shape)} are not (V, B, K) or codes {tuple(codes.shape)} not "
            "(n_global, B, K)"
        )
    if not 1 <= len(codes) <= len(scores) or len(scores) < 2:
        raise ValueError(
            f"codes of {len(codes)} views cannot be swapped among {len(scores)} views"
        )
    with torch.autocast(scores.device.type, enabled=False):
        if torch.is_grad_enabled() and scores.requires_grad:
            loss: Tensor = _SwappedPrediction.apply(scores, codes, temperature)
            return loss
        return _cross_entropy(scores, codes, temperature, gradient=None)


class _SwappedPrediction(torch.autograd.Function):
    """Computes the gradient along with the loss: one exponential for each score.

    Apart from the scores, the gradient is the only large tensor kept until the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor, codes: Tensor, temperature: float) -> Tensor:
        ctx.save_for_backward(scores, codes)
        ctx.temperature = temperature
        ctx.gradient = _empty(scores)
        return _cross_entropy(scores, codes, temperature, gradient=ctx.gradient)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor, None, None]:
        scores, codes = ctx.saved_tensors
        gradient, ctx.gradient = ctx.gradient, None  # released, because it is scaled in place
        if gradient is None:
            gradient = _empty(scores)
            with torch.autocast(scores.device.type, enabled=False):
                _cross_entropy(scores, codes, ctx.temperature, gradient=gradient)
        return gradient.mul_(factor).to(scores.dtype), None, None


@torch.no_grad()
def _cross_entropy(
    scores: Tensor, codes: Tensor, temperature: float, *, gradient: Tensor | None
) -> Tensor:
    """Returns the loss and writes its gradient to `(V, B, K)`, if given.

    The targets of a view are the sum t of the n codes of other views; with s its scores, its share
    of the loss is n logsumexp(s / T) - <t, s / T> and its gradient (n softmax(s / T) - t) / T.
    """
    n_global, n_views, n_samples = len(codes), len(scores), scores.shape[1]
    weight = 1 / (n_global * (n_views - 1) * n_samples)
    room = _empty(scores[0]) if gradient is None else gradient
    total = room.new_zeros(())
    for rows in _chunks(scores):
        chunk = codes[:, rows].to(room.dtype)
        code_sum = chunk.sum(dim=0)
        for view in range(n_views):
            n_targets = n_global - (view < n_global)
            targets = code_sum - chunk[view] if view < n_global else code_sum
            x = room[rows] if gradient is None else gradient[view, rows]
            torch.mul(scores[view, rows].to(x.dtype), math.log2(math.e) / temperature, out=x)
            x.sub_(x.amax(dim=1, keepdim=True))
            total -= torch.dot(targets.flatten(), x.flatten())
            norm = x.exp2_().sum(dim=1, keepdim=True)  # exp2: a third of the time of exp on a CPU
            total += norm.log2().sum().mul_(n_targets)
            if gradient is not None:
                x.mul_(norm.reciprocal_().mul_(n_targets * weight / temperature))
                x.add_(targets, alpha=-weight / temperature)
    return total.mul_(weight * math.log(2))


def _empty(scores: Tensor) -> Tensor:
    return torch.empty(
        scores.shape,
        dtype=torch.promote_types(scores.dtype, torch.float32),
        device=scores.device,
    )


def _chunks(scores: Tensor) -> list[slice]:
    """Returns ranges of samples to process together."""
    _, n_samples, n_prototypes = scores.shape
    size = n_samples if scores.device.type != "cpu" else _CHUNK_ELEMENTS // n_prototypes
    size = max(1, size)
    return [slice(start, start + size) for start in range(0, n_samples, size)]
