"""The loss of VICReg (Bardes et al., 2022, arXiv:2105.04906), equations 1 to 6.

Where the equations and the authors' code differ in constant factors, this follows the code
(facebookresearch/vicreg, main_vicreg.py), on which the weights 25, 25 and 1 and the published results
are based: distances are means over coordinates, and variance terms of two views are averaged.
"""

from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ssl_zoo.config import Config
from ssl_zoo.losses.moments import centred, cross_moment, n_images, off_diagonal_square
from ssl_zoo.losses.pairs import view_pairs

_EPS = 1e-4
"""Added to variances before taking the square root, in equation 1."""


class VICRegSettings(Config):
    """Weights of the three terms (section 4.2)."""

    invariance: float = Field(default=25.0, ge=0, le=1000)
    """Weight of the squared distance between views: lambda in equation 6."""
    variance: float = Field(default=25.0, ge=0, le=1000)
    """Weight of the hinge loss on the standard deviation of coordinates: mu in equation 6."""
    covariance: float = Field(default=1.0, ge=0, le=1000)
    """Weight of the squared covariances of different coordinates: nu in equation 6."""


class VICRegTerms(NamedTuple):
    """The three terms of the loss without weights, scalars with gradient."""

    invariance: Tensor
    variance: Tensor
    covariance: Tensor


class VICRegLoss(nn.Module):
    """Distance between views, plus variance and covariance terms over the images of all ranks.

    Args:
        config: settings that include those of the loss, such as a method's.
    """

    def __init__(self, config: VICRegSettings) -> None:
        super().__init__()
        self.config = config

    def forward(self, embeddings: Tensor, n_global: int) -> Tensor:
        """Returns the loss, a scalar with gradient; arguments as in `vicreg_terms`."""
        return self.weigh(vicreg_terms(embeddings, n_global))

    def weigh(self, terms: VICRegTerms) -> Tensor:
        """Returns the weighted sum of terms."""
        return (
            self.config.invariance * terms.invariance
            + self.config.variance * terms.variance
            + self.config.covariance * terms.covariance
        )


def vicreg_terms(embeddings: Tensor, n_global: int) -> VICRegTerms:
    """Returns the terms of the loss: means over the pairs of a global view and another view.

    Distances are over this rank's images; their mean over ranks is that of all images. Variances and
    covariances are over all ranks' images, and zero for a single image. Computed in float32 or float64.

    Args:
        embeddings: `(V, B, d)`, global views first.
        n_global: number of global views.

    Raises:
        ValueError: there is no pair of views, or `n_global` does not fit the views.
    """
    pairs = view_pairs(len(embeddings), n_global)
    with torch.autocast(embeddings.device.type, enabled=False):
        z = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
        views = [_spread(view, max(1, n_images(z) - 1)) for view in centred(z)]
        parts = [
            (
                functional.mse_loss(z[one], z[two]),
                (views[one][0] + views[two][0]) / 2,
                views[one][1] + views[two][1],
            )
            for one, two in pairs
        ]
        return VICRegTerms(*(torch.stack(terms).mean() for terms in zip(*parts, strict=True)))


def _spread(view: Tensor, freedom: int) -> tuple[Tensor, Tensor]:
    """Returns the variance and covariance terms of a centred view, `(B, d)`."""
    covariances = cross_moment(view, view) / freedom  # (d, d)
    deviations = (covariances.diagonal() + _EPS).sqrt()
    covariance = off_diagonal_square(covariances) / len(covariances)
    return functional.relu(1 - deviations).mean(), covariance
