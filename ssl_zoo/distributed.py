"""Ranks and collectives; in a single process everything here is a no-op."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ssl_zoo.errors import Superseded, UserError

T = TypeVar("T")
LONGEST_PAUSE_S = 0.2
"""Longest pause in seconds between checks of a rank that waits for rank 0."""
GRACE_S = 2.0
"""Seconds to wait for a rank's own signal after rank 0 has failed: launchers stop all ranks."""


def is_distributed() -> bool:
    """Returns whether a process group is initialised."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """Returns the rank of this process; 0 without a process group."""
    return dist.get_rank() if is_distributed() else 0


def world_size() -> int:
    """Returns the number of processes; 1 without a process group."""
    return dist.get_world_size() if is_distributed() else 1


def is_main() -> bool:
    """Returns whether this is rank 0, which writes files and prints."""
    return rank() == 0


def barrier() -> None:
    """Waits for all ranks."""
    if is_distributed():
        dist.barrier()


def all_reduce(tensor: Tensor, op: str = "sum", group: Any = None) -> Tensor:
    """Reduces in place (`sum`, `max` or `min`) over the ranks of a group, or all, and returns the tensor;
    no gradient."""
    if is_distributed():
        dist.all_reduce(tensor, op=getattr(dist.ReduceOp, op.upper()), group=group)
    return tensor


def stack_over_ranks(tensor: Tensor, group: Any = None) -> Tensor:
    """Returns the equally shaped tensors of the ranks of a group, or of all, `(W, ...)`; no gradient."""
    if not is_distributed() or world_size() == 1:
        return tensor[None]
    found = tensor.new_empty(dist.get_world_size(group), *tensor.shape)
    if tensor.is_cuda:  # NCCL would copy a list of parts
        dist.all_gather_into_tensor(found, tensor[None].contiguous(), group=group)
    else:
        dist.all_gather(list(found.unbind()), tensor.contiguous(), group=group)
    return found


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


def broadcast(tensor: Tensor) -> Tensor:
    """Replaces a tensor by rank 0's, in place, and returns it."""
    if is_distributed():
        dist.broadcast(tensor, src=0)
    return tensor


def send(tensor: Tensor, to: int) -> None:
    """Sends a contiguous tensor in host memory to a rank that calls `receive`."""
    dist.send(tensor, dst=to)


def receive(tensor: Tensor, source: int) -> Tensor:
    """Fills a contiguous tensor in host memory with what a rank sends, and returns it."""
    dist.recv(tensor, src=source)
    return tensor


def raise_any(error: str | None) -> None:
    """Raises the error of the first rank that has one, on all ranks; all ranks must call it.

    Raises:
        UserError: a rank passed an error message.
    """
    for text in all_gather_object(error):
        if text is not None:
            raise UserError.everywhere(text)


def on_main(action: Callable[[], None]) -> None:
    """Runs an action on rank 0 while the other ranks wait, without a timeout.

    Raises:
        UserError: the action raised one, which is raised on all ranks; or rank 0 has ended.
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


def from_main(action: Callable[[], T]) -> T:
    """Returns on all ranks what an action returns on rank 0; the others wait without a timeout.

    Raises:
        UserError: see `on_main`.
    """
    found: list[T] = []
    on_main(lambda: found.append(action()))
    value: T = broadcast_object(found[0] if found else None)
    return value


def together(function: Callable[[Any, Any], T], request: Any, *, held: Any = None) -> T:
    """Returns on rank 0 what a function returns that all ranks call, as `function(request, held)`.

    For rank 0 in `on_main`: ranks that wait for it call the function too, which may use collectives.
    Elsewhere, this process calls it alone.

    Args:
        function: function at module level.
        request: sent to the other ranks; pickled.
        held: what only rank 0 has; None on the others.

    Raises:
        UserError: the function raised one on any rank; it must not wait for ranks that do.
    """
    turn = _TURN.get()
    if turn is not None:
        turn.say(b"call")
        broadcast_object((function, request))
    return _called(function, request, held, alone=turn is None)


def helpers() -> int:
    """Returns the number of other ranks that take part in `together` now."""
    return 0 if _TURN.get() is None else world_size() - 1


def _called(function: Callable[[Any, Any], T], request: Any, held: Any, *, alone: bool) -> T:
    found: list[T] = []
    problem = None
    try:
        found.append(function(request, held))
    except UserError as error:
        if alone:
            raise
        problem = str(error)
    if not alone:
        raise_any(problem)
    return found[0]


@dataclass
class _Turn:
    """What rank 0 tells the ranks that wait for it: `call`s, then `done` or `failed`.

    They poll a key in the rendezvous store: a collective would fail after the timeout of the
    process group.
    """

    store: Any
    number: int
    said: int = 0

    def say(self, word: bytes) -> None:
        self.store.set(self._next_key(), word)

    def hear(self) -> bytes:
        return _wait_for(self.store, self._next_key())

    def _next_key(self) -> str:
        self.said += 1
        return f"ssl_zoo/said/{self.number}/{self.said}"


_TURN: ContextVar[_Turn | None] = ContextVar("turn", default=None)
"""On rank 0, what others wait for."""


@contextmanager
def _others_wait() -> Iterator[None]:
    """Makes the other ranks wait until rank 0 has left the `with` block, and help it if it asks."""
    if world_size() == 1:
        yield
        return
    store = dist.distributed_c10d._get_default_store()
    # The number is the same on all ranks, like that of collectives.
    turn = _Turn(store, store.add(f"ssl_zoo/turns/{rank()}", 1))
    token = _TURN.set(turn if is_main() else None)
    try:
        yield
    except BaseException:
        if is_main():
            turn.say(b"failed")
        raise
    finally:
        _TURN.reset(token)
    if is_main():
        turn.say(b"done")
    else:
        _help(turn)


def _help(turn: _Turn) -> None:
    """Calls what rank 0 asks for, until it is done.

    Raises:
        UserError: rank 0 has ended or has failed, or this rank cannot do what it asks for.
    """
    while (word := turn.hear()) == b"call":
        try:
            function, request = broadcast_object(None)
            with suppress(UserError):  # which rank 0 raises, too
                _called(function, request, None, alone=False)
        except RuntimeError as error:  # also of a collective whose other end is gone
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"rank {rank()} cannot take part in the work of rank 0 ({reason}); check the log of rank 0"
            ) from error
    if word == b"failed":
        time.sleep(GRACE_S)
        raise UserError.everywhere("rank 0 has failed; check its log")


def _wait_for(store: Any, key: str) -> bytes:
    """Returns the value of a key when rank 0 has set it.

    Raises:
        UserError: rank 0 has ended.
    """
    pause = 0.001
    try:
        while not store.check([key]):
            time.sleep(pause)
            pause = min(1.5 * pause, LONGEST_PAUSE_S)
        value: bytes = store.get(key)
    except RuntimeError:  # DistNetworkError and related errors
        raise UserError(
            f"rank 0 has ended while rank {rank()} waited for it (connection closed); check the "
            "log of rank 0"
        ) from None
    return value


class _GatherWithGradient(torch.autograd.Function):
    """Concatenates over ranks; the backward pass sums the gradients of a row over all ranks."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        ctx.rows, tensor = tensor.shape[0], tensor.contiguous()
        parts = [torch.empty_like(tensor) for _ in range(world_size())]
        dist.all_gather(parts, tensor)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        # A copy: autograd may pass the same tensor to other functions.
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
    """Joins the process group described by the environment, and returns this rank's device.

    Reads RANK, WORLD_SIZE and LOCAL_RANK as set by `torchrun`, and the address of its rendezvous
    unless a `store` is given.

    Uses NCCL if CUDA is available, else gloo. The device is that of the local rank, or `cuda:0` if
    the launcher has already bound one GPU to each process.

    Raises:
        UserError: there are more local ranks than GPUs, or other processes do not join.
    """
    cuda = torch.cuda.is_available()
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cpu")
    if cuda:
        count = torch.cuda.device_count()
        bound = count == 1 and "CUDA_VISIBLE_DEVICES" in os.environ
        if local_rank >= count and not bound:
            raise UserError(
                f"local rank {local_rank} has no GPU: {count} visible on this machine; "
                "start at most one process per GPU"
            )
        device = torch.device("cuda", local_rank if count > 1 else 0)
        torch.cuda.set_device(device)
    n_ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if n_ranks > 1 and not is_distributed():
        backend, timeout = "cpu:gloo,cuda:nccl" if cuda else "gloo", timedelta(seconds=timeout_s)
        given: dict[str, Any] = {}
        if store is not None:
            given = {"store": store, "rank": int(os.environ["RANK"]), "world_size": n_ranks}
        try:
            dist.init_process_group(backend, timeout=timeout, **given)
        except dist.DistStoreError as error:
            raise UserError(
                f"not all of {n_ranks} processes have joined in {timeout_s:.0f} s ({error}); look for "
                "one that was never started, or ended before"
            ) from None
    return device


@contextmanager
def process_group(store: Any = None) -> Iterator[torch.device]:
    """Joins the process group of the environment for the duration of a `with` block.

    Args:
        store: where ranks rendezvous, if not at the address in the environment.
    """
    was_up = is_distributed()
    device = init_from_environment(store)
    try:
        yield device
    finally:
        if is_distributed() and not was_up:
            dist.destroy_process_group()
