"""Swapped prediction: each view predicts the codes of the other global views of its image.

SwAV (Caron et al., 2020, arXiv:2006.09882), equations 2 and 6.
"""

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ssl_zoo.config import Config, NamedConfig
from ssl_zoo.losses.sinkhorn import sinkhorn
from ssl_zoo.registries import LOSSES

_CHUNK_ELEMENTS = 1 << 17
"""Scores in a chunk on the CPU: half a megabyte of float32, which stays in the cache."""


class SwapSettings(Config):
    """Settings of swapped prediction; defaults from SwAV's training scripts."""

    temperature: float = Field(default=0.1, ge=0.01, le=10)
    """Divides the scores of a prediction."""
    epsilon: float = Field(default=0.05, ge=0.001, le=10)
    """Entropy regularisation of the codes; smaller is sharper."""
    sinkhorn_iterations: int = Field(default=3, ge=1, le=100)
    """Normalisations of prototypes and samples that make codes."""


@LOSSES.register
class SwappedPredictionLoss(nn.Module):
    """SwAV's loss: codes of global views, predicted from all other views."""

    class Config(NamedConfig, SwapSettings):
        """Settings of swapped prediction."""

        name: Literal["swapped_prediction"] = "swapped_prediction"

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def forward(self, scores: Tensor, n_global: int, queue_scores: Tensor | None = None) -> Tensor:
        """Returns the loss, a scalar with gradient.

        Args:
            scores: `(V, B, K)`, similarity of views with prototypes; global views first.
            n_global: how many views are global.
            queue_scores: `(n_global, Q, K)`, scores of earlier samples that join in the codes.
        """
        codes = self.codes(scores, n_global, queue_scores)
        return swapped_prediction(scores, codes, temperature=self.config.temperature)

    def codes(self, scores: Tensor, n_global: int, queue_scores: Tensor | None = None) -> Tensor:
        """Returns the codes of the global views, `(n_global, B, K)`, without gradient.

        Each view is a problem of its own. Arguments as in `forward`.

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

    Mean over global views of the mean over the other views: SwAV, equation 6. Computed in float32
    at least; has a first derivative only, and none for the codes.

    Args:
        scores: `(V, B, K)`, the views that have codes first.
        codes: `(n_global, B, K)`; rows sum to one.
        temperature: divides the scores.

    Raises:
        ValueError: shapes do not fit, or there is no other view.
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
    loss: Tensor = _SwappedPrediction.apply(scores, codes, temperature)
    return loss


class _SwappedPrediction(torch.autograd.Function):
    """Cross entropy of a view with the sum of its targets, so that each view has one softmax.

    View v has the targets t = sum of the codes of other views, n of them. Its loss is
    -<t, log_softmax(s / T)> and its gradient (n softmax(s / T) - t) / T, both over the number of
    pairs and samples. The backward pass computes the softmax again, which costs no more than to
    write, keep and scale the gradient.
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor, codes: Tensor, temperature: float) -> Tensor:
        ctx.save_for_backward(scores, codes)
        ctx.temperature = temperature
        dtype = torch.promote_types(scores.dtype, torch.float32)
        total = torch.zeros((), dtype=dtype, device=scores.device)
        with torch.autocast(scores.device.type, enabled=False):
            for rows in _chunks(scores):
                targets = _Targets(codes[:, rows], dtype)
                for view, part in enumerate(scores[:, rows]):
                    log_p = torch.log_softmax(part.to(dtype) / temperature, dim=1)
                    total -= torch.dot(targets.of(view).flatten(), log_p.flatten())
        return total * _weight(scores, codes)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        scores, codes = ctx.saved_tensors
        result = torch.empty_like(scores)
        with torch.autocast(scores.device.type, enabled=False):
            factor = gradient * (_weight(scores, codes) / ctx.temperature)
            for rows in _chunks(scores):
                targets = _Targets(codes[:, rows], gradient.dtype)
                for view, part in enumerate(scores[:, rows]):
                    p = torch.softmax(part.to(gradient.dtype) / ctx.temperature, dim=1)
                    p.mul_(targets.number(view)).sub_(targets.of(view))
                    torch.mul(p, factor, out=result[view, rows])
        return result, None, None


class _Targets:
    """Sums of the codes `(n_global, rows, K)` of all views but one."""

    def __init__(self, codes: Tensor, dtype: torch.dtype) -> None:
        self._codes = codes.to(dtype)
        self._sum = self._codes.sum(dim=0)

    def number(self, view: int) -> int:
        return len(self._codes) - (view < len(self._codes))

    def of(self, view: int) -> Tensor:
        return self._sum - self._codes[view] if view < len(self._codes) else self._sum


def _weight(scores: Tensor, codes: Tensor) -> float:
    """Returns one over the number of (code, other view, sample) triples."""
    return 1 / (len(codes) * (len(scores) - 1) * scores.shape[1])


def _chunks(scores: Tensor) -> list[slice]:
    """Returns ranges of samples that are worked on together."""
    _, n_samples, n_prototypes = scores.shape
    size = n_samples if scores.device.type != "cpu" else _CHUNK_ELEMENTS // n_prototypes
    size = max(1, size)
    return [slice(start, start + size) for start in range(0, n_samples, size)]
