"""Batch normalisation with statistics over several ranks: that of torch on CUDA, our own elsewhere."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ssl_zoo import distributed
from ssl_zoo.errors import UserError
from ssl_zoo.runs.history import host


class PlainSyncBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Synchronised batch normalisation for any device; that of torch needs a GPU."""

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
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        momentum = self.momentum
        if momentum is None:  # a plain average over all batches
            momentum = 1 / float(self.num_batches_tracked or 1)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(variance.to(self.running_var.dtype), momentum)


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
    if device.type == "cuda":
        convert: Any = nn.SyncBatchNorm.convert_sync_batchnorm
        return convert(module, group)  # type: ignore[no-any-return]
    for submodule in module.modules():
        if isinstance(submodule, nn.modules.batchnorm._BatchNorm):
            # Same parameters, buffers and state dict; only the forward pass differs.
            plain: Any = submodule
            plain.__class__, plain.group = PlainSyncBatchNorm, group
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
