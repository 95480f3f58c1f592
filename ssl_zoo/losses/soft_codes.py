"""Losses of a discrete autoencoder: soft codes with Gumbel noise, their divergence from uniform codes, and
the likelihood of pixels.

Gumbel softmax: Jang et al., 2017, arXiv:1611.01144; Maddison et al., 2017, arXiv:1611.00712. The rest after
Ramesh et al., 2021, "Zero-shot text-to-image generation", arXiv:2102.12092, section 2.1 and appendix A.
"""

import math

import torch
from torch import Tensor

from ssl_zoo import distributed

MARGIN = 0.1
"""Pixels in [0, 1] are squeezed into [MARGIN, 1 - MARGIN], where their logit is finite (appendix A.3)."""


def soft_codes(scores: Tensor, uniform: Tensor, *, temperature: float) -> Tensor:
    """Returns a relaxed sample of the codes at each patch, softmax((scores + Gumbel noise) / temperature).

    Computed in float32 or float64.

    Args:
        scores: logits `(N, K, h, w)`.
        uniform: random numbers in [0, 1), `(N, K, h, w)`; the noise is -ln(-ln(u)).
        temperature: towards 0, samples become one-hot.
    """
    exact = scores.to(torch.promote_types(scores.dtype, torch.float32))
    smallest = torch.finfo(uniform.dtype).tiny  # a number of 0 would be noise of -infinity
    noise = uniform.clamp(min=smallest).log().neg_().log().neg_()
    return ((exact + noise.to(exact.dtype)) / temperature).softmax(dim=1)


def divergence_from_uniform(scores: Tensor) -> Tensor:
    """Returns KL(q || uniform) = sum_k q_k (ln q_k + ln K), averaged over patches and images, a scalar.

    Neither noise nor temperature has a part in it. In [0, ln K]; 0 if all codes are equally likely at each
    patch. Computed in float32 or float64.

    Args:
        scores: logits `(N, K, h, w)`.
    """
    exact = scores.to(torch.promote_types(scores.dtype, torch.float32))
    log_q = exact.log_softmax(dim=1)
    return (log_q.exp() * log_q).sum(dim=1).mean() + math.log(scores.shape[1])


def logit_laplace(pixels: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Returns the mean negative log likelihood of pixels, a scalar, under the logit-Laplace distribution.

    f(x) = exp(-|logit x - mean| / b) / (2 b x (1 - x)) with b = exp(log_scale), for x = .8 pixel + .1
    (equation 2 in appendix A.3). Computed in float32 or float64.

    Args:
        pixels: in [0, 1], `(N, C, H, W)`.
        mean: location on the logit scale, `(N, C, H, W)`.
        log_scale: logarithm of b, `(N, C, H, W)`.
    """
    dtype = torch.promote_types(mean.dtype, torch.float32)
    x = squeezed(pixels.to(dtype))
    distance = (torch.logit(x) - mean.to(dtype)).abs()
    log_b = log_scale.to(dtype)
    return (distance * (-log_b).exp() + log_b + math.log(2) + (x * (1 - x)).log()).mean()


def squeezed(pixels: Tensor) -> Tensor:
    """Returns pixels in [0, 1] mapped to [MARGIN, 1 - MARGIN]."""
    return (1 - 2 * MARGIN) * pixels + MARGIN


def unsqueezed(squeezed_pixels: Tensor) -> Tensor:
    """Returns what `squeezed` maps to these values, clipped to [0, 1]."""
    return ((squeezed_pixels - MARGIN) / (1 - 2 * MARGIN)).clamp(0, 1)


@torch.no_grad()
def code_use(codes: Tensor, n_codes: int) -> dict[str, float]:
    """Returns how evenly the patches of a batch, of all ranks, use the codes.

    Args:
        codes: of any shape, int64 in [0, n_codes).
        n_codes: number of codes.

    Returns:
        `code_usage`: part of the codes that occur, in [0, 1]; `code_perplexity`: exp of the entropy of their
            frequencies, from 1 if all patches have one code to `n_codes` if each is used equally.
    """
    counts = distributed.all_reduce(torch.bincount(codes.flatten(), minlength=n_codes)).double()
    entropy = torch.special.entr(counts / counts.sum()).sum()
    return {
        "code_usage": float((counts > 0).double().mean()),
        "code_perplexity": float(entropy.exp()),
    }
