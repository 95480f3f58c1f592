"""KoLeo: a penalty on embeddings that are close to their nearest neighbour.

Sablayrolles et al., 2019 ("Spreading vectors for similarity search", arXiv:1806.03198), equation 2, as
in DINOv2 (Oquab et al., 2023, arXiv:2304.07193, section 4; facebookresearch/dinov2, loss/koleo_loss.py).
"""

import torch
from torch import Tensor
from torch.nn import functional

from ssl_zoo import distributed

_EPSILON = 1e-8


def koleo(embeddings: Tensor) -> Tensor:
    """Returns the negative mean log distance of unit embeddings to their nearest neighbour, a scalar.

    Neighbours are sought among the embeddings of all ranks, so the mean over ranks is the value of one
    process with the global batch. Computed in float32 or float64.

    Args:
        embeddings: `(B, d)`, normalised here. A single one over all ranks has no neighbour and counts
            as 0.
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        exact = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
        own = functional.normalize(exact, dim=1, eps=_EPSILON)
        everyone = distributed.gather(own)
        if len(everyone) < 2:
            return own.sum() * 0
        with torch.no_grad():
            similarity = own @ everyone.T  # (B, N)
            start = distributed.rank() * len(own)
            itself = torch.arange(len(own), device=own.device)
            similarity[itself, start + itself] = -2
            nearest = similarity.argmax(dim=1)
        distance = functional.pairwise_distance(own, everyone[nearest], eps=_EPSILON)
        return -(distance + _EPSILON).log().mean()
