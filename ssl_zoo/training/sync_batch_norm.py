"""Batch normalisation with statistics over several ranks, for CUDA and for any other device."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ssl_zoo import distributed
from ssl_zoo.errors import UserError
from ssl_zoo.runs.history import host


class PlainSyncBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Synchronised batch normalisation for any device."""

    group: Any = None

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(
                f"batch normalisation needs (N, C, ...), not {input.dim()} dimensions"
            )

    def forward(self, input: Tensor) -> Tensor:
        """Normalises `(N, C, ...)` with the statistics of all ranks in the group during training."""
        if not self.training:
            return super().forward(input)
        axes = [0, *range(2, input.dim())]
        shape = [1, -1] + [1] * (input.dim() - 2)
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        local = x.new_tensor([x.numel() / x.shape[1]])
        sums = distributed.sum_over_ranks(torch.cat([x.sum(axes), local]), self.group)
        count = sums[-1].detach()
        mean = sums[:-1] / count
        centred = x - mean.view(shape)
        squares = distributed.sum_over_ranks((centred**2).sum(axes), self.group)
        variance = squares / count
        out = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            out = out * self.weight.view(shape) + self.bias.view(shape)
        self._track(mean.detach(), variance.detach() * count / (count - 1).clamp(min=1))
        result: Tensor = out.to(input.dtype)
        return result

    def _track(self, mean: Tensor, variance: Tensor) -> None:
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        momentum = self._counted_momentum()
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(variance.to(self.running_var.dtype), momentum)

    def _counted_momentum(self) -> float:
        """Counts a batch and returns its weight in the running statistics."""
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        if self.momentum is not None:
            return self.momentum
        return 1 / float(self.num_batches_tracked or 1)  # a plain average over all batches


class GPUSyncBatchNorm(PlainSyncBatchNorm):
    """The same with CUDA's kernels for parts of a batch; never waits for the device.

    `nn.SyncBatchNorm` waits in each layer, as it leaves out the ranks without images, which it finds by
    reading the counts of all ranks. Here each rank has some.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalises `(N, C, ...)` with the statistics of all ranks in the group during training."""
        if not self.training:
            return nn.modules.batchnorm._BatchNorm.forward(self, input)
        tracks = self.track_running_stats and self.running_mean is not None
        found: Tensor = _Normalized.apply(
            input,
            self.weight,
            self.bias,
            (self.running_mean, self.running_var, self._counted_momentum())
            if tracks
            else (None, None, 0.0),
            self.eps,
            self.group,
        )
        return found


class _Normalized(torch.autograd.Function):
    """Batch normalisation by the statistics of all ranks: a collective forward, and one backward.

    With mean m and inverse standard deviation r of all N values of a channel, x' = (x - m) r w + b, and the
    gradient of x is r w (dy - sum(dy) / N - (x - m) r^2 sum(dy (x - m)) / N) (Ioffe and Szegedy, 2015,
    arXiv:1502.03167, section 3), with sums over all ranks. The kernels are those of torch
    (pytorch/pytorch, torch/nn/modules/_functions.py).
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running: tuple[Tensor | None, Tensor | None, float],
        eps: float,
        group: Any,
    ) -> Tensor:
        x, ctx.group = _dense(x), group
        mean, scale = torch.batch_norm_stats(x, eps)  # scale is 1 / standard deviation
        count = mean.new_full((1,), x.numel() // x.shape[1])
        everyone = distributed.stack_over_ranks(torch.cat([mean, scale, count]), group)
        means, scales, counts = torch.split(everyone, [len(mean), len(mean), 1], dim=1)
        mean, scale = torch.batch_norm_gather_stats_with_counts(
            x, means, scales, *running, eps, counts.flatten()
        )
        ctx.save_for_backward(x, weight, mean, scale, counts.flatten().to(torch.int32))
        out: Tensor = torch.batch_norm_elemt(x, weight, bias, mean, scale, eps)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, scale, counts = ctx.saved_tensors
        dy = _dense(dy)
        needed = ctx.needs_input_grad[:3]
        sums, products, of_weight, of_bias = torch.batch_norm_backward_reduce(
            dy, x, mean, scale, weight, *needed
        )
        of_x = None
        if needed[0]:
            both = distributed.all_reduce(torch.cat([sums, products]), group=ctx.group)
            sums, products = both[: len(sums)], both[len(sums) :]
            of_x = torch.batch_norm_backward_elemt(
                dy, x, mean, scale, weight, sums, products, counts
            )
        return of_x, of_weight, of_bias, None, None, None


def _dense(x: Tensor) -> Tensor:
    """Returns a tensor in a layout that the kernels take."""
    is_last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return x if is_last else x.contiguous()


def synchronize(module: nn.Module, mode: str | int, device: torch.device) -> nn.Module:
    """Returns the module with its batch normalisation synchronised over ranks.

    Args:
        mode: `off`, `all`, `node` for the ranks of one machine, or the number of neighbouring ranks
            that share statistics.

    Raises:
        UserError: the group size does not divide the number of ranks, or a layer is a custom kind of
            batch normalisation.
    """
    if mode == "off" or distributed.world_size() == 1:
        return module
    known = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
    for name, submodule in module.named_modules():
        if isinstance(submodule, nn.modules.batchnorm._BatchNorm) and type(submodule) not in known:
            raise UserError(
                f"'{name}' is a {type(submodule).__name__}, which cannot be synchronised without "
                "losing its custom behaviour; set sync_batch_norm='off'"
            )
    group = None
    if mode != "all":
        members = _by_node() if mode == "node" else _neighbours(int(mode))
        groups = [dist.new_group(ranks) for ranks in members]  # all ranks must create all groups
        group = next(
            g for g, ranks in zip(groups, members, strict=True) if distributed.rank() in ranks
        )
    kind = GPUSyncBatchNorm if device.type == "cuda" else PlainSyncBatchNorm
    for submodule in module.modules():
        if isinstance(submodule, nn.modules.batchnorm._BatchNorm):
            # Same parameters, buffers and state dict; only the forward pass differs.
            plain: Any = submodule
            plain.__class__, plain.group = kind, group
    return module


def _neighbours(size: int) -> list[list[int]]:
    """Returns groups of consecutive ranks."""
    n_ranks = distributed.world_size()
    if n_ranks % size:
        raise UserError(f"sync_batch_norm of {size} does not divide the {n_ranks} processes")
    return [list(range(start, start + size)) for start in range(0, n_ranks, size)]


def _by_node() -> list[list[int]]:
    """Returns the ranks of each machine."""
    groups: dict[str, list[int]] = {}
    for rank, name in enumerate(distributed.all_gather_object(host())):
        groups.setdefault(name, []).append(rank)
    return list(groups.values())
