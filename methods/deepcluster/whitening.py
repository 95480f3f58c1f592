"""PCA whitening of features that are distributed over ranks.

DeepCluster (Caron et al., 2018, arXiv:1807.05520), section 4.1: features are PCA-reduced to 256
dimensions, whitened and L2-normalised before clustering.
"""

import torch
from torch import Tensor
from torch.nn import functional

from ssl_zoo import distributed

_SMALLEST = 1e-6
"""Variance relative to the largest, below which a direction is not scaled up further."""


@torch.no_grad()
def whiten(features: Tensor, *, max_dim: int) -> Tensor:
    """Returns the leading principal components with unit variance and L2-normalised rows, `(n, d)`.

    Mean and covariance are over all ranks, in float64. Directions without any variance, such as a
    channel that is never active, remain constant.

    Args:
        features: features of this rank, `(n, D)`.
        max_dim: maximum number of components.
    """
    with torch.autocast(features.device.type, enabled=False):
        x = features.double()
        n = distributed.all_reduce(x.new_tensor(float(len(x))))
        x = x - distributed.all_reduce(x.sum(dim=0)) / n
        covariance = distributed.all_reduce(x.t() @ x) / n
        variances, directions = torch.linalg.eigh(covariance)  # in increasing order
        kept = min(max_dim, len(variances))
        variances, directions = variances[-kept:], directions[:, -kept:]
        floor = (_SMALLEST * variances[-1]).clamp(min=torch.finfo(x.dtype).tiny)
        white = x @ directions * variances.clamp(min=floor).rsqrt()
        dtype = torch.promote_types(features.dtype, torch.float32)
        return functional.normalize(white, dim=1).to(dtype)
