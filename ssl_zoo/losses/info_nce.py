"""InfoNCE: identifies the key of the same image among keys of other images.

van den Oord et al. (2018, arXiv:1807.03748), equation 4, as in MoCo (He et al., 2020, arXiv:1911.05722,
equation 1), for any number of views.
"""

import math

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ssl_zoo import distributed
from ssl_zoo.config import Config


class InfoNCESettings(Config):
    """Settings of InfoNCE."""

    temperature: float = Field(default=0.2, ge=0.01, le=10)
    """Divides the cosine similarities (0.2: Chen et al., 2020, arXiv:2003.04297, section 3)."""


class InfoNCELoss(nn.Module):
    """InfoNCE over the global batch of all ranks, or against negatives from elsewhere.

    Args:
        config: settings that include those of InfoNCE, such as a method's.
    """

    def __init__(self, config: InfoNCESettings) -> None:
        super().__init__()
        self.config = config

    def forward(
        self,
        queries: Tensor,
        keys: Tensor,
        negatives: Tensor | None = None,
        *,
        same_views: bool = True,
    ) -> Tensor:
        """Returns the loss, a scalar with gradient; arguments as in `info_nce`."""
        return info_nce(
            queries,
            keys,
            negatives,
            temperature=self.config.temperature,
            same_views=same_views,
        )


def info_nce(
    queries: Tensor,
    keys: Tensor,
    negatives: Tensor | None = None,
    *,
    temperature: float,
    same_views: bool = True,
) -> Tensor:
    """Returns the mean cross entropy over pairs of a query view and a key view of each image.

    The positive of a query is the key of the pair's other view of the same image. Its negatives are the
    keys of that view of all other images, over all ranks, or only `negatives` if given.

    Gradients of keys are sent to the rank that they come from. All ranks have the same number of images
    and each returns the mean over its own queries. The mean over ranks, which DistributedDataParallel
    computes for gradients, is then that of one process with the whole batch.

    Args:
        queries: `(V, B, D)`; normalised here, in float32 or float64.
        keys: `(K, B, D)` of the same images in the same order; also normalised here.
        negatives: `(Q, D)`, normalised, the same for all queries and on all ranks.
        temperature: divides the cosine similarities.
        same_views: whether query `i` and key `i` are of the same view, which is not a pair.

    Raises:
        ValueError: shapes do not match, or there is no pair.
    """
    pairs, n_pairs = _pairs(queries, keys, same_views)
    with torch.autocast(queries.device.type, enabled=False):
        dtype = torch.promote_types(queries.dtype, torch.float32)
        q = functional.normalize(queries.to(dtype), dim=2)
        k = functional.normalize(keys.to(dtype), dim=2)
        if negatives is None:
            terms = _among_the_batch(q, k, temperature)
        else:
            terms = _among(q, k, negatives.to(dtype), temperature)
        return terms.masked_fill(~pairs[:, :, None], 0).sum() / (n_pairs * terms.shape[2])


def _among_the_batch(q: Tensor, k: Tensor, temperature: float) -> Tensor:
    """Returns the cross entropies `(V, K, B)` of the positive key among all keys of its view."""
    everyone = distributed.gather(k.transpose(0, 1).contiguous())  # (N, K, D)
    logits = torch.einsum("vbd,nkd->vkbn", q, everyone) / temperature
    own = torch.arange(q.shape[1], device=q.device)
    positive = logits[:, :, own, own + distributed.rank() * len(own)]
    return logits.logsumexp(dim=3) - positive


def _among(q: Tensor, k: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """Returns the cross entropies `(V, K, B)` of the positive key among it and the negatives."""
    positive = torch.einsum("vbd,kbd->vkb", q, k) / temperature
    negative = (q.flatten(0, 1) @ negatives.T / temperature).logsumexp(dim=1)
    return -functional.logsigmoid(positive - negative.view(len(q), 1, -1))


@torch.no_grad()
def positive_cosine(queries: Tensor, keys: Tensor, *, same_views: bool = True) -> Tensor:
    """Returns the mean cosine similarity of positive pairs; arguments as for `info_nce`."""
    pairs, n_pairs = _pairs(queries, keys, same_views)
    with torch.autocast(queries.device.type, enabled=False):
        q = functional.normalize(queries.float(), dim=2)
        k = functional.normalize(keys.float(), dim=2)
        cosines = torch.einsum("vbd,kbd->vk", q, k)
    return cosines.masked_fill(~pairs, 0).sum() / (n_pairs * queries.shape[1])


def _pairs(queries: Tensor, keys: Tensor, same_views: bool) -> tuple[Tensor, int]:
    """Returns which query and key views form pairs, `(V, K)`, and the number of pairs."""
    if queries.ndim != 3 or keys.ndim != 3 or queries.shape[1:] != keys.shape[1:]:
        raise ValueError(
            f"queries {tuple(queries.shape)} and keys {tuple(keys.shape)} are not (views, B, D) "
            "of the same images"
        )
    shape = len(queries), len(keys)
    pairs = torch.ones(shape, dtype=torch.bool, device=queries.device)
    if same_views:
        pairs.fill_diagonal_(False)
    n_pairs = math.prod(shape) - same_views * min(shape)
    if not n_pairs:
        raise ValueError(f"{shape[0]} query views and {shape[1]} key views do not form a pair")
    return pairs, n_pairs
