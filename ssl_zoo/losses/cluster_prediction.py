"""Cluster prediction: every view of an image predicts the image's cluster, for several clusterings.

DeepCluster (Caron et al., 2018, arXiv:1807.05520), equation 1; with several clusterings and local
crops as in DeepCluster-v2 (Caron et al., 2020, arXiv:2006.09882, appendix).
"""

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ssl_zoo import distributed
from ssl_zoo.config import Config

_UNKNOWN = -100


class ClusterPredictionSettings(Config):
    """Settings of cluster prediction."""

    temperature: float = Field(default=0.1, ge=0.01, le=10)
    """Divides the scores (0.1: facebookresearch/swav, main_deepclusterv2.py)."""


class ClusterPredictionLoss(nn.Module):
    """Cross entropy of all views with the targets of several clusterings.

    Args:
        config: settings that include those of cluster prediction, such as a method's.
    """

    def __init__(self, config: ClusterPredictionSettings) -> None:
        super().__init__()
        self.config = config

    def forward(self, scores: Sequence[Tensor], targets: Tensor) -> Tensor:
        """Returns the loss of each clustering, `(H,)`; arguments as in `cluster_prediction`."""
        return cluster_prediction(scores, targets, temperature=self.config.temperature)


def cluster_prediction(
    scores: Sequence[Tensor],
    targets: Tensor,
    *,
    temperature: float = 1.0,
    weights: Sequence[Tensor] | None = None,
) -> Tensor:
    """Returns the cross entropy with each clustering, `(H,)`, with gradient.

    The mean over all views of all images that have a target, over all ranks. As ranks may have different
    numbers of such images, each returns the sum over its own divided by the mean number over ranks. The
    mean over ranks, which DistributedDataParallel computes for gradients, is then that of one process
    with the whole batch. Without any target, loss and gradient are 0.

    Args:
        scores: for each clustering `(V * B, K)`, view by view.
        targets: `(H, B)`; -100 for images without one.
        temperature: divides the scores.
        weights: for each clustering `(K,)`; factors for the terms of images in each cluster.

    Raises:
        ValueError: scores and targets do not fit.
    """
    n_images = targets.shape[1]
    if len(scores) != len(targets) or any(len(s) % n_images for s in scores):
        raise ValueError(
            f"scores of shapes {[tuple(s.shape) for s in scores]} do not fit targets of shape "
            f"{tuple(targets.shape)}"
        )
    dtype = torch.promote_types(scores[0].dtype, torch.float32)
    known = distributed.all_reduce((targets != _UNKNOWN).sum(dim=1).to(dtype))
    mean_known = (known / distributed.world_size()).clamp(min=1e-6)
    losses = []
    with torch.autocast(targets.device.type, enabled=False):
        for head, one in enumerate(scores):
            n_views = len(one) // n_images
            total = functional.cross_entropy(
                one.to(dtype) / temperature,
                targets[head].repeat(n_views),
                weight=None if weights is None else weights[head].to(dtype),
                ignore_index=_UNKNOWN,
                reduction="sum",
            )
            losses.append(total / (n_views * mean_known[head]))
    return torch.stack(losses)
