"""What torch's CUDA kernels for parts of batch normalisation compute, in operations that run anywhere.

After aten/src/ATen/native/cuda/Normalization.cuh of pytorch/pytorch.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

import torch
from torch import Tensor


def axes_of(x: Tensor) -> list[int]:
    return [0, *range(2, x.ndim)]


def per_channel(values: Tensor, x: Tensor) -> Tensor:
    return values.view(1, -1, *[1] * (x.ndim - 2))


def widened(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def batch_norm_stats(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    variance, mean = torch.var_mean(widened(x), dim=axes_of(x), correction=0)
    return mean, (variance + eps).rsqrt()


def batch_norm_gather_stats_with_counts(
    x: Tensor,
    means: Tensor,
    scales: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    momentum: float,
    eps: float,
    counts: Tensor,
) -> tuple[Tensor, Tensor]:
    n = counts.sum()
    shares = counts[:, None] / n
    mean = (shares * means).sum(dim=0)
    variance = (shares * (scales**-2 - eps + (means - mean) ** 2)).sum(dim=0)
    if running_mean is not None and running_var is not None:
        running_mean.lerp_(mean.to(running_mean.dtype), momentum)
        running_var.lerp_((variance * n / (n - 1)).to(running_var.dtype), momentum)
    return mean, (variance + eps).rsqrt()


def batch_norm_elemt(
    x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, scale: Tensor, eps: float
) -> Tensor:
    normal = (widened(x) - per_channel(mean, x)) * per_channel(scale, x)
    return (normal * per_channel(weight, x) + per_channel(bias, x)).to(x.dtype)


def batch_norm_backward_reduce(
    dy: Tensor, x: Tensor, mean: Tensor, scale: Tensor, weight: Tensor, *needed: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    sums = widened(dy).sum(axes_of(x))
    products = (widened(dy) * (widened(x) - per_channel(mean, x))).sum(axes_of(x))
    return sums, products, products * scale, sums


def batch_norm_backward_elemt(
    dy: Tensor,
    x: Tensor,
    mean: Tensor,
    scale: Tensor,
    weight: Tensor,
    sums: Tensor,
    products: Tensor,
    counts: Tensor,
) -> Tensor:
    n = counts.sum()
    centred = widened(x) - per_channel(mean, x)
    away = per_channel(sums / n, x) + centred * per_channel(scale**2 * products / n, x)
    return ((widened(dy) - away) * per_channel(scale * weight, x)).to(x.dtype)


KERNELS = (
    batch_norm_stats,
    batch_norm_gather_stats_with_counts,
    batch_norm_elemt,
    batch_norm_backward_reduce,
    batch_norm_backward_elemt,
)


@contextmanager
def kernels_anywhere() -> Iterator[None]:
    """Replaces torch's kernels, which need a GPU, for the duration of a `with` block."""
    with ExitStack() as stack:
        for kernel in KERNELS:
            stack.enter_context(mock.patch(f"torch.{kernel.__name__}", kernel))
        yield
