"""Pairs of views with multi-crop, and how well one view of a pair predicts the other.

Every pair contains a global view, as in SwAV (Caron et al., 2020, arXiv:2006.09882), equation 6: local
crops are compared with global crops, never with each other.
"""

import torch
from torch import Tensor
from torch.nn import functional

_SHORTEST = 1e-6
"""Smallest norm that vectors are divided by, as in BYOL's `l2_normalize`; gradients divide by it."""


def view_pairs(n_views: int, n_global: int) -> list[tuple[int, int]]:
    """Returns each pair of a global view and another view once, for symmetric losses.

    Raises:
        ValueError: there is no pair, or `n_global` does not fit the views.
    """
    _check(n_views, n_global)
    return [(one, two) for one in range(n_global) for two in range(one + 1, n_views)]


def mean_cosine(predictions: Tensor, targets: Tensor) -> Tensor:
    """Returns the mean cosine similarity between targets and the predictions of all other views.

    The mean is over images and pairs: a global view is the target of every other view, so two global
    views form two pairs, one in each direction. Targets get no gradient.

    BYOL (Grill et al., 2020, arXiv:2006.07733), equation 2, is `2 - 2 * cosine` for a direction; SimSiam
    (Chen and He, 2021, arXiv:2011.10566), equation 2, is `-cosine` over both. Computed in float32 or
    float64.

    Args:
        predictions: `(V, B, d)`, global views first.
        targets: `(n_global, B, d)`.

    Raises:
        ValueError: shapes do not match, or there is no other view.
    """
    n_views, n_global = len(predictions), len(targets)
    if predictions.ndim != 3 or predictions.shape[1:] != targets.shape[1:]:
        raise ValueError(
            f"predictions {tuple(predictions.shape)} are not (V, B, d) or targets "
            f"{tuple(targets.shape)} not (n_global, B, d)"
        )
    _check(n_views, n_global)
    with torch.autocast(predictions.device.type, enabled=False):
        sums = torch.einsum("vbd,gbd->vg", _unit(predictions), _unit(targets.detach()))
        itself = torch.eye(n_views, n_global, dtype=torch.bool, device=sums.device)
        n_pairs = n_global * (n_views - 1)
        return sums.masked_fill(itself, 0).sum() / (n_pairs * predictions.shape[1])


def _unit(vectors: Tensor) -> Tensor:
    exact = vectors.to(torch.promote_types(vectors.dtype, torch.float32))
    return functional.normalize(exact, dim=2, eps=_SHORTEST)


def _check(n_views: int, n_global: int) -> None:
    if n_views < 2 or not 1 <= n_global <= n_views:
        raise ValueError(f"n_global of {n_global} and {n_views} views do not give a pair")
