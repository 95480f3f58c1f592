"""Second moments of embeddings over the global batch of all ranks, with gradient.

Ranks add up sums over their own images. So each has the matrices of the whole batch although none
has its embeddings, and does its own share of the products alone. Ranks hold equally many images.
"""

import torch
from torch import Tensor

from ssl_zoo import distributed


def centred(embeddings: Tensor) -> Tensor:
    """Returns embeddings `(V, B, d)` less the mean of their view; in float32 at least."""
    z = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
    return z - distributed.sum_over_ranks(z.sum(dim=1, keepdim=True)) / n_images(z)


def standardized(embeddings: Tensor, *, eps: float = 1e-5) -> Tensor:
    """Returns embeddings `(V, B, d)` whose coordinates have mean 0 and variance 1 in each view.

    What batch normalisation without scale and shift makes of each view.

    Args:
        eps: added to the variance, so that what does not vary becomes 0.
    """
    z = centred(embeddings)
    squares = distributed.sum_over_ranks(z.square().sum(dim=1, keepdim=True))
    return z * torch.rsqrt(squares / n_images(z) + eps)


def cross_moment(one: Tensor, two: Tensor) -> Tensor:
    """Returns the sum over all images of the products of coordinates, `(d, d)`.

    Args:
        one: `(B, d)`.
        two: `(B, d)`, of the same images.
    """
    return distributed.sum_over_ranks(one.t() @ two)


def off_diagonal_square(matrix: Tensor) -> Tensor:
    """Returns the sum of the squares of what is not on the diagonal, a scalar."""
    return matrix.square().sum() - matrix.diagonal().square().sum()


def n_images(embeddings: Tensor) -> int:
    """Returns the number of images in `(V, B, d)` over all ranks."""
    return embeddings.shape[1] * distributed.world_size()
