"""NT-Xent, the normalised temperature-scaled cross entropy of SimCLR, for two or more views.

SimCLR (Chen et al., 2020, arXiv:2002.05709), equation 1. With multi-crop, the pairs are those of SwAV
(Caron et al., 2020, arXiv:2006.09882), equation 6.
"""

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ssl_zoo import distributed
from ssl_zoo.config import Config

_NO_NEGATIVE = -1e9
"""Used instead of minus infinity, whose gradient would be NaN for a sample without negatives."""


class NTXentSettings(Config):
    """Settings of NT-Xent."""

    temperature: float = Field(default=0.1, ge=0.01, le=10)
    """Divides the cosine similarities (0.1: SimCLR, section 2.1 and Table 5)."""


class NTXentLoss(nn.Module):
    """NT-Xent over the global batch of all ranks.

    Args:
        config: settings that include those of NT-Xent, such as a method's.
    """

    def __init__(self, config: NTXentSettings) -> None:
        super().__init__()
        self.config = config

    def forward(self, embeddings: Tensor, n_global: int) -> Tensor:
        """Returns the loss, a scalar with gradient; arguments as in `nt_xent`."""
        return nt_xent(embeddings, n_global, temperature=self.config.temperature)


def nt_xent(embeddings: Tensor, n_global: int, *, temperature: float) -> Tensor:
    """Returns the mean cross entropy over pairs of a view and another global view of the same image.

    Each view, global or local, is an anchor with one term per other global view of its image. A term
    compares this positive with the global views of all other images, over all ranks; other views of the
    same image are excluded. With two global views this is SimCLR's loss.

    All ranks have the same number of images and each returns the mean over its own anchors. The mean
    over ranks, which DistributedDataParallel computes for gradients, is then that of one process with
    the whole batch.

    Other implementations differ for multi-crop: solo-learn (losses/simclr.py) sums all positives of an
    anchor inside the logarithm and also uses local views as negatives.

    Args:
        embeddings: `(V, B, D)`, global views first; normalised here, in float32 or float64.
        n_global: number of global views.
        temperature: divides the cosine similarities.

    Raises:
        ValueError: there is no pair of views, or `n_global` does not fit the views.
    """
    n_views, n_images, _ = embeddings.shape
    if n_views < 2 or not 1 <= n_global <= n_views:
        raise ValueError(f"n_global of {n_global} and {n_views} views do not give a pair")
    with torch.autocast(embeddings.device.type, enabled=False):
        z = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
        z = functional.normalize(z, dim=2)
        others = distributed.gather(z[:n_global].transpose(0, 1).contiguous())  # (N, n_global, D)
        logits = z.flatten(0, 1) @ others.flatten(0, 1).t() / temperature
        logits = logits.view(n_views, n_images, len(others), n_global)

        own = torch.arange(n_images, device=z.device)
        positive = logits[:, own, own + distributed.rank() * n_images]  # (V, B, n_global)
        same_image = own[:, None] + distributed.rank() * n_images == torch.arange(
            len(others), device=z.device
        )
        negatives = logits.masked_fill(same_image[None, :, :, None], _NO_NEGATIVE)
        negative = negatives.flatten(2).logsumexp(dim=2, keepdim=True)  # (V, B, 1)
        terms = -functional.logsigmoid(positive - negative)
        itself = torch.eye(n_views, n_global, dtype=torch.bool, device=z.device)[:, None]
        return terms.masked_fill(itself, 0).sum() / (n_global * (n_views - 1) * n_images)
