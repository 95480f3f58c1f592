"""Second moments of embeddings over the global batch of all ranks, with gradient.

Ranks sum over their own images and reduce the sums. Each rank then has the matrices of the whole batch
without gathering its embeddings, and computes only its own products. All ranks have the same number of
images.
"""

import torch
from torch import Tensor

from ssl_zoo import distributed


def centred(embeddings: Tensor) -> Tensor:
    """Returns embeddings `(V, B, d)` minus the mean of their view, in float32 or float64."""
    z = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
    return z - distributed.sum_over_ranks(z.sum(dim=1, keepdim=True)) / n_images(z)


def standardized(embeddings: Tensor, *, eps: float = 1e-5) -> Tensor:
    """Returns embeddings `(V, B, d)` whose coordinates have mean 0 and variance 1 in each view.

    Equivalent to batch normalisation of each view without scale and shift.

    Args:
        eps: added to the variance, so that constant coordinates become 0.
    """
    z = centred(embeddings)
    squares = distributed.sum_over_ranks(z.square().sum(dim=1, keepdim=True))
    return z * torch.rsqrt(squares / n_images(z) + eps)


def cross_moment(one: Tensor, two: Tensor) -> Tensor:
    """Returns the sum over all images of products of coordinates, `(d, d)`.

    Args:
        one: `(B, d)`.
        two: `(B, d)`, of the same images.
    """
    return distributed.sum_over_ranks(one.t() @ two)


def off_diagonal_square(matrix: Tensor) -> Tensor:
    """Returns the sum of squared off-diagonal entries, a scalar."""
    return matrix.square().sum() - matrix.diagonal().square().sum()


def n_images(embeddings: Tensor) -> int:
    """Returns the number of images in `(V, B, d)` over all ranks."""
    return embeddings.shape[1] * distributed.world_size()
