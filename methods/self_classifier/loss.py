"""The loss of Self-Classifier (Amrani et al., 2022, arXiv:2103.10994), section 3.

Facts of elad-amrani/self-classifier, src/loss.py (commit 3935138). Logarithms are taken before
normalisation here, so that the small constant in its logarithm is not needed.
"""

import math

import torch
from torch import Tensor

from ssl_zoo import distributed


def self_classification(
    scores: Tensor, n_global: int, *, temperature: float, target_temperature: float
) -> Tensor:
    """Returns the cross entropy of class assignments between views, a scalar.

    With a uniform prior over C classes and over the N images of all ranks, a view predicts
    `N / C * p(image | class)`: a softmax over classes, divided for each class by its sum over images.
    Its targets are the other views' `p(class | image)`: a softmax over images, divided for each image by
    its sum over classes. Targets have a gradient, too. Equal classes for all images, one for all or all
    for each, cost ln C.

    The mean is over this rank's images and all ordered pairs of views, except those of a view with
    itself and of two local views; the mean over ranks is the loss of the global batch. Computed in
    float32 or float64.

    Args:
        scores: `(V, B, C)`, global views first.
        n_global: number of global views.
        temperature: divides the scores of predictions.
        target_temperature: divides the scores of targets.

    Raises:
        ValueError: the views do not form a pair, or `n_global` does not fit them.
    """
    n_views, n_images, n_classes = scores.shape
    n_local = n_views - n_global
    if n_views < 2 or not 1 <= n_global <= n_views:
        raise ValueError(f"n_global of {n_global} and {n_views} views do not give a pair")
    with torch.autocast(scores.device.type, enabled=False):
        exact = scores.to(torch.promote_types(scores.dtype, torch.float32))
        chosen = (exact / temperature).log_softmax(dim=2)  # (V, B, C)
        prior = math.log(n_images * distributed.world_size() / n_classes)
        predictions = chosen - _log_sum_over_images(chosen) + prior
        cooled = exact / target_temperature
        targets = (cooled - _log_sum_over_images(cooled)).softmax(dim=2)
        entropies = -torch.einsum("tbc,pbc->tp", targets, predictions)  # of target and prediction
        used = torch.ones_like(entropies).fill_diagonal_(0)
        used[n_global:, n_global:] = 0
        n_pairs = n_views * (n_views - 1) - n_local * (n_local - 1)
        return (entropies * used).sum() / (n_pairs * n_images)


def _log_sum_over_images(logits: Tensor) -> Tensor:
    """Returns the log of the sum of exponentials over all ranks' images, `(V, 1, C)`, with gradient."""
    largest = distributed.all_reduce(logits.detach().amax(dim=1, keepdim=True), "max")
    own = (logits - largest).exp().sum(dim=1, keepdim=True)
    return largest + distributed.sum_over_ranks(own).log()
