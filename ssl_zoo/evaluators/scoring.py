"""Shared by evaluators: turning hits into scores and settings into a protocol."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_zoo.config import digest
from ssl_zoo.evaluators.statistics import bootstrap_interval

Percents = dict[str, float]
Intervals = dict[str, tuple[float, float]]


def described(evaluator: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the protocol of a result: the evaluator, its settings, and their digest."""
    return {"evaluator": evaluator, **settings, "digest": digest(dict(settings))}


def places(classes: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the position of each label among sorted classes, -1 if it is not one of them."""
    found = np.minimum(np.searchsorted(classes, labels), len(classes) - 1)
    return np.where(classes[found] == labels, found, -1)


def ranks(scores: Tensor, truth: NDArray[np.int64]) -> NDArray[np.int64]:
    """Counts the classes ahead of the true one, `(B,)`; of equal scores the lower class is ahead.

    Args:
        scores: `(B, K)`.
        truth: position of the true class, `(B,)`; -1 if it is not among the classes, which gives K.
    """
    target = torch.from_numpy(truth).to(scores.device)[:, None]
    own = scores.gather(1, target.clamp(min=0))
    classes = torch.arange(scores.shape[1], device=scores.device)
    ahead = (scores > own) | ((scores == own) & (classes < target))
    counts = torch.where(target[:, 0] < 0, scores.shape[1], ahead.sum(dim=1))
    found: NDArray[np.int64] = counts.cpu().numpy()
    return found


def top_hits(found: NDArray[np.int64], n_classes: int) -> dict[str, NDArray[np.bool_]]:
    """Returns `top1` and, with more than 5 classes, `top5` of ranks `(N,)`."""
    tops = (1, 5) if n_classes > 5 else (1,)
    return {f"top{top}": found < top for top in tops}


def by_class(hits: NDArray[np.bool_], labels: NDArray[np.int64]) -> dict[str, float]:
    """Returns the percentage of hits per class."""
    return {str(label): 100 * float(hits[labels == label].mean()) for label in np.unique(labels)}


def in_percent(
    outcomes: Mapping[str, NDArray[Any]], *, seed: int, n_resamples: int
) -> tuple[Percents, Intervals]:
    """Returns the means of per-image scores, in percent, and intervals over images."""
    values, intervals = {}, {}
    for name, each in outcomes.items():
        values[name] = 100 * float(each.mean(dtype=np.float64))
        low, high = bootstrap_interval(each, seed=seed, n_resamples=n_resamples)
        intervals[name] = (100 * low, 100 * high)
    return values, intervals


def stratified(
    labels: NDArray[np.int64], share: float, *, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Splits images at random, stratified by class.

    Args:
        labels: of the images, `(N,)`.
        share: fraction of each class in the second part, in (0, 1); rounded, at least one image
            stays in the first.

    Returns:
        Sorted positions of both parts.
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(labels))
    chosen = np.zeros(len(labels), dtype=np.bool_)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        chosen[members[: min(round(share * len(members)), len(members) - 1)]] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)
