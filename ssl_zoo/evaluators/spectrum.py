"""Label-free measures from the spectra of features: alpha-ReQ and LiDAR."""

import torch
from torch import Tensor

FIRST, LAST = 6, 100
"""Ranks of the eigenvalues that a power law is fitted to: the default of arnab39/reptrix, by the authors
of alpha-ReQ (reptrix/alpha.py at commit 0016559: `np.arange(5, 100)`, counted from 0)."""
LEAST_EIGENVALUES = 10
"""Number of eigenvalues in this range below which there is no fit."""
_ZERO = 1e-10  # relative to the largest eigenvalue, in float64


def alpha_req(features: Tensor) -> float | None:
    """Returns the exponent of the decay of the covariance's eigenvalues: the n-th is as n to the -alpha.

    Agrawal, Mondal, Ghosh and Richards, "alpha-ReQ: Assessing representation quality in self-supervised
    learning by measuring eigenspectrum decay", NeurIPS 2022. They find the best features near 1: a
    larger exponent is a collapse to few directions, a smaller one close to noise. The line is fitted to
    the logarithms with weights of 1 / n, as in their code.

    Args:
        features: `(N, D)`.

    Returns:
        The exponent; None if there are too few eigenvalues above 0.
    """
    centred = features.double() - features.double().mean(dim=0)
    wide = centred.shape[0] < centred.shape[1]
    gram = centred @ centred.T if wide else centred.T @ centred
    eigenvalues = torch.linalg.eigvalsh(gram).flip(0)
    kept = eigenvalues[eigenvalues > _ZERO * eigenvalues[0]][FIRST - 1 : LAST]
    if len(kept) < LEAST_EIGENVALUES:
        return None
    ranks = torch.arange(FIRST, FIRST + len(kept), dtype=torch.float64, device=kept.device)
    x, y, weight = ranks.log(), kept.log(), 1 / ranks
    x, y = x - (weight @ x) / weight.sum(), y - (weight @ y) / weight.sum()
    return float(-(weight @ (x * y)) / (weight @ (x * x)))


def lidar_rank(means: Tensor, within: Tensor, *, delta: float) -> float:
    """Returns the effective rank of the linear discriminant analysis that tells images apart by views.

    Thilak et al., "LiDAR: Sensing linear probing performance in joint embedding SSL architectures", ICLR
    2024, arXiv:2312.04000: the exponential of the entropy of the normalised eigenvalues of
    `within^-1/2 between within^-1/2`. Directions that differ as much between the views of an image as
    between images count little. As in our RankMe, nothing is added to the shares.

    Args:
        means: mean feature of the views of each image, `(N, D)`.
        within: covariance of views around the mean of their image, `(D, D)`.
        delta: what is added to the diagonal of `within`.
    """
    centred = means.double() - means.double().mean(dim=0)
    between = centred.T @ centred / (len(means) - 1)
    whole = within.double() + delta * torch.eye(len(within), dtype=torch.float64).to(within.device)
    lower = torch.linalg.cholesky(whole)
    half = torch.linalg.solve_triangular(lower, between, upper=False)
    both = torch.linalg.solve_triangular(lower, half.T, upper=False)  # eigenvalues as above
    eigenvalues = torch.linalg.eigvalsh((both + both.T) / 2).clamp(min=0)
    if eigenvalues.sum() == 0:
        return 0.0
    shares = eigenvalues / eigenvalues.sum()
    return float(torch.special.entr(shares).sum().exp())
