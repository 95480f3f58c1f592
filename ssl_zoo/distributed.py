"""Ranks and collectives; everything here also works, as a no-op, in a single process."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ssl_zoo.errors import Superseded, UserError

LONGEST_PAUSE_S = 0.2
"""Between two looks of a rank that waits for rank 0."""
GRACE_S = 2.0
"""What a rank waits for a signal of its own when rank 0 has left its work: launchers stop all ranks."""


def is_distributed() -> bool:
    """Says whether a process group is up."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """Returns the rank of this process, 0 when alone."""
    return dist.get_rank() if is_distributed() else 0


def world_size() -> int:
    """Returns the number of processes, 1 when alone."""
    return dist.get_world_size() if is_distributed() else 1


def is_main() -> bool:
    """Says whether this is the process that writes files and prints."""
    return rank() == 0


def barrier() -> None:
    """Waits for all ranks."""
    if is_distributed():
        dist.barrier()


def all_reduce(tensor: Tensor, op: str = "sum") -> Tensor:
    """Reduces in place over all ranks (`sum`, `max` or `min`) and returns the tensor; no gradient."""
    if is_distributed():
        dist.all_reduce(tensor, op=getattr(dist.ReduceOp, op.upper()))
    return tensor


def broadcast_object(value: Any) -> Any:
    """Returns rank 0's value on all ranks."""
    if not is_distributed():
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def all_gather_object(value: Any) -> list[Any]:
    """Returns the values of all ranks in rank order, on all ranks."""
    if not is_distributed():
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def raise_any(error: str | None) -> None:
    """Raises the mistake of the first rank that has one, on all ranks; they call it together.

    Raises:
        UserError: some rank gave the text of one.
    """
    for text in all_gather_object(error):
        if text is not None:
            raise UserError.everywhere(text)


def on_main(action: Callable[[], None]) -> None:
    """Runs something on rank 0 while the others wait, however long it takes.

    Raises:
        UserError: what the user did wrong there, on all ranks; or rank 0 has ended.
    """
    problem: UserError | None = None
    with _others_wait():
        if is_main():
            try:
                action()
            except UserError as error:
                problem = error
                problem.on_all_ranks = True
    told = (str(problem), isinstance(problem, Superseded)) if problem else None
    told = broadcast_object(told)
    if told:
        text, superseded = told
        raise problem or (Superseded if superseded else UserError).everywhere(text)


@contextmanager
def _others_wait() -> Iterator[None]:
    """Lets the other ranks wait until rank 0 has left the `with` block.

    They look at a key in the store where ranks met: a collective would give up after the timeout
    of the process group.
    """
    if world_size() == 1:
        yield
        return
    store = dist.distributed_c10d._get_default_store()
    turn = store.add(f"ssl_zoo/turns/{rank()}", 1)  # the same on all ranks, as collectives are
    key = f"ssl_zoo/done/{turn}"
    try:
        yield
    except BaseException:
        if is_main():
            store.set(key, "failed")
        raise
    if is_main():
        store.set(key, "done")
    else:
        _wait_for(store, key)


def _wait_for(store: Any, key: str) -> None:
    """Waits until rank 0 has set a key.

    Raises:
        UserError: rank 0 has ended or has failed.
    """
    pause = 0.001
    try:
        while not store.check([key]):
            time.sleep(pause)
            pause = min(1.5 * pause, LONGEST_PAUSE_S)
        failed = store.get(key) == b"failed"
    except RuntimeError:  # DistNetworkError and its kin
        raise UserError(
            f"rank 0 has ended while rank {rank()} waited for it (connection closed); look at the "
            "log of rank 0"
        ) from None
    if failed:
        time.sleep(GRACE_S)
        raise UserError.everywhere("rank 0 has failed; look at its log")


class _GatherWithGradient(torch.autograd.Function):
    """Concatenates over ranks; the backward pass sums the gradients that all ranks have for a row."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        ctx.rows, tensor = tensor.shape[0], tensor.contiguous()
        parts = [torch.empty_like(tensor) for _ in range(world_size())]
        dist.all_gather(parts, tensor)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        # A copy: autograd may hand the same tensor to others.
        gradient = all_reduce(gradients[0].clone(memory_format=torch.contiguous_format))
        start = rank() * ctx.rows
        return gradient[start : start + ctx.rows]


def gather(tensor: Tensor) -> Tensor:
    """Concatenates equally shaped tensors of all ranks along dimension 0, with gradient.

    The gradient of a row is the sum over the losses of all ranks.
    """
    if not is_distributed() or world_size() == 1:
        return tensor
    gathered: Tensor = _GatherWithGradient.apply(tensor)
    return gathered


class _SumOverRanks(torch.autograd.Function):
    """Sums over the ranks of a group, in the forward and in the backward pass."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, group: Any) -> Tensor:
        ctx.group = group
        return _summed(tensor, group)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _summed(gradients[0], ctx.group), None


def _summed(tensor: Tensor, group: Any) -> Tensor:
    total = tensor.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total, group=group)
    return total


def sum_over_ranks(tensor: Tensor, group: Any = None) -> Tensor:
    """Returns the sum over the ranks of a group, or over all, with gradient.

    The gradient is the sum over the losses of those ranks, as in `gather`.
    """
    if not is_distributed() or world_size() == 1:
        return tensor
    total: Tensor = _SumOverRanks.apply(tensor, group)
    return total


def init_from_environment(store: Any = None, *, timeout_s: float = 1800) -> torch.device:
    """Joins the process group that the environment describes, and returns this rank's device.

    RANK, WORLD_SIZE and LOCAL_RANK are those of `torchrun`, and so is the place where ranks meet
    unless a `store` is given.

    NCCL where CUDA is present, gloo otherwise. The device follows the local rank; when the launcher
    has already bound one GPU to each process that is `cuda:0`.

    Raises:
        UserError: more local ranks than GPUs.
    """
    cuda = torch.cuda.is_available()
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cpu")
    if cuda:
        count = torch.cuda.device_count()
        bound = count == 1 and "CUDA_VISIBLE_DEVICES" in os.environ
        if local_rank >= count and not bound:
            raise UserError(
                f"local rank {local_rank} has no GPU: this machine shows {count}; "
                "start at most one process for each GPU"
            )
        device = torch.device("cuda", local_rank if count > 1 else 0)
        torch.cuda.set_device(device)
    n_ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if n_ranks > 1 and not is_distributed():
        backend, timeout = "cpu:gloo,cuda:nccl" if cuda else "gloo", timedelta(seconds=timeout_s)
        if store is None:
            dist.init_process_group(backend, timeout=timeout)
        else:
            dist.init_process_group(
                backend,
                timeout=timeout,
                store=store,
                rank=int(os.environ["RANK"]),
                world_size=n_ranks,
            )
    return device


@contextmanager
def process_group(store: Any = None) -> Iterator[torch.device]:
    """Joins the process group of the environment for the time of a `with` block.

    Args:
        store: where ranks meet, if not at the address in the environment.
    """
    was_up = is_distributed()
    device = init_from_environment(store)
    try:
        yield device
    finally:
        if is_distributed() and not was_up:
            dist.destroy_process_group()
