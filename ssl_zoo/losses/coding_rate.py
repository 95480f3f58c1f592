"""The coding rate of embeddings: how much of their space they fill.

Ma et al., 2007 ("Segmentation of multivariate mixed data via lossy data coding and compression"), with the
factor of SimDINO (Wu et al., 2025, arXiv:2502.10385; facts of RobinWu218/SimDINO, main_dino.py).
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from ssl_zoo.losses.moments import cross_moment, n_images


def coding_rate(embeddings: Tensor, *, epsilon: float) -> Tensor:
    """Returns the rate of each view, `(V,)`: `1/2 ln det(I + d / (N epsilon) Z^T Z)` of unit rows Z.

    Z is `(N, d)`, of the images of all ranks: all have the value of the global batch, with gradient.
    Computed in float32 or float64.

    Args:
        embeddings: `(V, B, d)`, normalised here.
        epsilon: precision of the code; smaller values count finer differences.
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        exact = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
        unit = functional.normalize(exact, dim=2)
        dim, count = unit.shape[2], n_images(unit)
        moments = torch.stack([cross_moment(view, view) for view in unit])  # (V, d, d)
        identity = torch.eye(dim, dtype=unit.dtype, device=unit.device)
        # Not `logdet`, which waits for the device. Eigenvalues are 1 at least, so there is a factor.
        factors = torch.linalg.cholesky_ex(identity + dim / (count * epsilon) * moments).L
        rates: Tensor = factors.diagonal(dim1=1, dim2=2).log().sum(dim=1)
        return rates


def largest_coding_rate(dim: int, count: int, *, epsilon: float) -> float:
    """Returns the rate of unit embeddings that fill as many directions as they can, all equally.

    Args:
        dim: length of an embedding.
        count: number of embeddings.
    """
    rank = min(dim, count)
    return rank / 2 * math.log1p(dim / (rank * epsilon))


def coding_rate_weight(dim: int, count: int) -> float:
    """Returns the factor of the rate in SimDINO's loss: gamma, which makes sizes of batches comparable."""
    return (dim + count) / (dim * count)
