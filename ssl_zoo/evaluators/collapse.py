"""Measures of feature collapse."""

import math

import torch
from torch import Tensor
from torch.nn import functional


@torch.no_grad()
def feature_std(features: Tensor) -> Tensor:
    """Returns how evenly the directions of features `(N, D)` are spread: near 1 is healthy, 0 collapsed.

    The standard deviation of each coordinate of L2-normalised features, averaged and multiplied by
    the square root of D (Chen and He, 2021, arXiv:2011.10566, section 4.1).
    """
    unit = functional.normalize(features.double(), dim=1)
    return (unit.std(dim=0, correction=0).mean() * math.sqrt(features.shape[1])).float()


@torch.no_grad()
def effective_rank(features: Tensor) -> Tensor:
    """Returns the effective rank of features `(N, D)`, from 1 to min(N, D); NaN if not finite.

    The exponential of the entropy of normalised singular values (Roy and Vetterli, "The effective
    rank", EUSIPCO 2007), as in RankMe (Garrido et al., 2023, arXiv:2210.02885): features are not
    centred. The rank of all zeros is 0.
    """
    matrix = features.double()
    if not matrix.isfinite().all():
        return torch.full((), math.nan, device=features.device)
    wide = matrix.shape[0] < matrix.shape[1]
    gram = matrix @ matrix.T if wide else matrix.T @ matrix
    singular = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    if singular.sum() == 0:
        return torch.zeros((), device=features.device)
    shares = singular / singular.sum()
    entropy: Tensor = torch.special.entr(shares).sum()
    return entropy.exp().float()
