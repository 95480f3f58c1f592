"""The loss of Barlow Twins (Zbontar et al., 2021, arXiv:2103.03230), equations 1 and 2."""

from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from ssl_zoo.config import Config
from ssl_zoo.losses.moments import cross_moment, n_images, off_diagonal_square, standardized
from ssl_zoo.losses.pairs import view_pairs


class BarlowTwinsSettings(Config):
    """Settings of the loss."""

    redundancy: float = Field(default=5e-3, ge=0, le=1)
    """Weight of correlations between different coordinates: lambda in equation 1 (section 2.2)."""


class CorrelationTerms(NamedTuple):
    """The two sums of equation 1, scalars with gradient.

    Attributes:
        invariance: sum over coordinates of the squared distance of their correlation between views to 1.
        redundancy: sum over pairs of different coordinates of their squared correlation.
    """

    invariance: Tensor
    redundancy: Tensor


class BarlowTwinsLoss(nn.Module):
    """The distance of the cross-correlation matrix of two views, over all ranks, to the identity.

    Args:
        config: settings that include those of the loss, such as a method's.
    """

    def __init__(self, config: BarlowTwinsSettings) -> None:
        super().__init__()
        self.config = config

    def forward(self, embeddings: Tensor, n_global: int) -> Tensor:
        """Returns the loss, a scalar with gradient; arguments as in `correlation_terms`."""
        return self.weigh(correlation_terms(embeddings, n_global))

    def weigh(self, terms: CorrelationTerms) -> Tensor:
        """Returns the weighted sum of terms."""
        return terms.invariance + self.config.redundancy * terms.redundancy


def correlation_terms(embeddings: Tensor, n_global: int) -> CorrelationTerms:
    """Returns the terms of the loss: means over the pairs of a global view and another view.

    Each view is standardised over the images of all ranks, so all correlations of a single image are 0.
    The result is equal on all ranks. Computed in float32 or float64.

    Args:
        embeddings: `(V, B, d)`, global views first.
        n_global: number of global views.

    Raises:
        ValueError: there is no pair of views, or `n_global` does not fit the views.
    """
    pairs = view_pairs(len(embeddings), n_global)
    with torch.autocast(embeddings.device.type, enabled=False):
        z = standardized(embeddings)
        invariance, redundancy = [], []
        for one, two in pairs:
            correlation = cross_moment(z[one], z[two]) / n_images(z)  # (d, d)
            invariance.append((correlation.diagonal() - 1).square().sum())
            redundancy.append(off_diagonal_square(correlation))
        return CorrelationTerms(torch.stack(invariance).mean(), torch.stack(redundancy).mean())
