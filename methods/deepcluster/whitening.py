"""PCA-whitening of features that are spread over ranks.

DeepCluster (Caron et al., 2018, arXiv:1807.05520), section 4.1: features are PCA-reduced to 256
dimensions, whitened and put to length one before they are clustered.
"""

import torch
from torch import Tensor
from torch.nn import functional

from ssl_zoo import distributed

_SMALLEST = 1e-6
"""Variance of a direction, as a share of the largest, below which it is not blown up any further."""


@torch.no_grad()
def whiten(features: Tensor, *, max_dim: int) -> Tensor:
    """Returns the leading principal components at unit variance, rows of length one, `(n, d)`.

    Mean and covariance are those of all ranks, in float64. Where there is no variance at all, as
    in a channel that never fires, there stays none.

    Args:
        features: this rank's, `(n, D)`.
        max_dim: components that are kept at most.
    """
    with torch.autocast(features.device.type, enabled=False):
        x = features.double()
        n = distributed.all_reduce(x.new_tensor(float(len(x))))
        x = x - distributed.all_reduce(x.sum(dim=0)) / n
        covariance = distributed.all_reduce(x.t() @ x) / n
        variances, directions = torch.linalg.eigh(covariance)  # in rising order
        kept = min(max_dim, len(variances))
        variances, directions = variances[-kept:], directions[:, -kept:]
        floor = (_SMALLEST * variances[-1]).clamp(min=torch.finfo(x.dtype).tiny)
        white = x @ directions * variances.clamp(min=floor).rsqrt()
        dtype = torch.promote_types(features.dtype, torch.float32)
        return functional.normalize(white, dim=1).to(dtype)
