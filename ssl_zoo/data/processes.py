"""Calls a function in loader processes: torch's loader, made safe for signals, deaths and exits."""

import atexit
import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from multiprocessing.process import BaseProcess
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info
from torch.utils.data import Dataset as TorchDataset

from ssl_zoo.errors import UserError

_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)
"""Signals that ask a run to stop; launchers send them to all its processes."""
LAST_BREATH_S = 0.5
"""Seconds to wait for the end of workers after an error, which can be known before their end."""


@dataclass(frozen=True)
class _Refusal:
    """A user's mistake that a worker process found; torch would wrap the error in a traceback."""

    message: str


class _Jobs(TorchDataset[Any]):
    """Lets torch's loader call any function of a job in its worker processes."""

    def __init__(self, work: Any) -> None:
        self.work = work

    def __getitem__(self, job: Any) -> Any:
        try:
            found = self.work(job)
            _share(found)
        except UserError as error:
            return _Refusal(str(error))
        except Exception as error:
            who = get_worker_info()
            assert who is not None
            error.add_note(f"in loader process {who.id + 1} of {who.num_workers}")
            raise
        return found


def _share(found: Any) -> None:
    """Puts tensors into shared memory, here instead of in a thread of torch whose errors are lost.

    Raises:
        UserError: there is no room.
    """
    if isinstance(found, Tensor):
        try:
            found.share_memory_()  # type: ignore[no-untyped-call]
        except (RuntimeError, OSError) as error:
            if "memory" not in str(error):
                raise
            raise UserError(
                "shared memory for loader processes is full; use fewer num_workers, or give /dev/shm more "
                "(--shm-size, or --ipc=host, of a container)"
            ) from None
    elif is_dataclass(found):
        for item in fields(found):
            _share(getattr(found, item.name))
    elif isinstance(found, list | tuple):
        for one in found:
            _share(one)


def in_processes(
    work: Any, jobs: Sequence[Any], *, num_workers: int, ahead: int = 2, pin_memory: bool = False
) -> Generator[Any]:
    """Yields `work(job)` for each job, in order; in this process if there are no workers, or one job.

    Workers live until the last job, and end if the iterator is closed. They ignore the signals that
    stop a run: they end with their parent process, which may need them until it has saved.

    Args:
        work: a function or callable object; results are tensors, or containers of them.
        jobs: arguments of the calls; each is made shortly before it is needed.
        num_workers: processes, each with one thread.
        ahead: jobs of each process whose results are not used yet.
        pin_memory: whether results are in page-locked memory, for copies to a GPU.

    Raises:
        UserError: a call raised one, or a process was killed.
    """
    if num_workers == 0 or len(jobs) < 2:
        for job in jobs:
            with _one_thread():
                found = work(job)
            yield found
        return
    loader: DataLoader[Any] = DataLoader(
        _Jobs(work),
        batch_size=None,
        sampler=jobs,
        num_workers=min(num_workers, len(jobs)),
        prefetch_factor=ahead,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # otherwise it draws from the global generator
        worker_init_fn=_ignore_stops,
    )
    with _started(loader) as (results, workers):
        while True:
            death = ""
            try:
                found = next(results)
            except StopIteration:
                return
            except (RuntimeError, OSError, EOFError):  # a dead process, or one that failed
                death = _death_of(workers)
                if not death:
                    raise
            if death:  # raised here, so that it does not keep torch's error and its frames alive
                raise UserError(death)
            if isinstance(found, _Refusal):
                raise UserError(found.message)
            yield found
            del found  # a tensor in shared memory


@contextmanager
def _one_thread() -> Iterator[None]:
    """Gives torch one thread in a `with` block: those of OpenMP spin while they wait for work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _started(loader: DataLoader[Any]) -> Iterator[tuple[Iterator[Any], list[BaseProcess]]]:
    """Yields the results and the processes of a loader, which end with the `with` block."""
    before, workers = set(multiprocessing.active_children()), list[BaseProcess]()
    results: Any = None
    owner = os.getpid()

    def end() -> None:
        """Python would send TERM at its exit, which workers ignore, and wait for them."""
        for worker in workers if os.getpid() == owner else ():
            worker.kill()

    atexit.register(end)
    try:
        with _stops_held_back(), _unchanged(signal.SIGCHLD):
            results = iter(loader)  # starts the workers
        workers += [each for each in multiprocessing.active_children() if each not in before]
        workers.sort(key=lambda each: each.pid or 0)
        yield results, workers
    finally:
        if results is not None:
            results._shutdown_workers()
        for worker in workers:
            if worker.is_alive():  # it hangs in a file system, or in code that is not ours
                worker.kill()
                worker.join()
        atexit.unregister(end)


def _death_of(workers: Sequence[BaseProcess]) -> str:
    """Returns in one line which worker was killed and why; empty if none was."""
    for number, worker in enumerate(workers, 1):
        worker.join(LAST_BREATH_S / len(workers))
        if worker.exitcode is None or worker.exitcode == 0:
            continue
        who = f"loader process {number} of {len(workers)} (process {worker.pid})"
        if worker.exitcode > 0:
            return f"{who} ended with status {worker.exitcode}; its own message is above"
        name = signal.Signals(-worker.exitcode).name
        cause = {
            "SIGKILL": "often because memory ran out; use fewer num_workers or a smaller batch",
            "SIGBUS": "as shared memory is full; use fewer num_workers, or give /dev/shm more",
        }.get(name, "which is a fault of a decoder or another library; num_workers=0 shows more")
        return f"{who} was killed by {name}, {cause}"
    return ""


@contextmanager
def _unchanged(signum: signal.Signals) -> Iterator[None]:
    """Restores the handler of a signal after a `with` block.

    Torch's own for dead workers raises an error wherever the main process is at that moment, in the
    middle of a save for example; without it, the error comes when the next result is asked for.
    """
    before = signal.getsignal(signum)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signum, before)


@contextmanager
def _stops_held_back() -> Iterator[None]:
    """Blocks stop signals during a `with` block, also in processes started in it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ignore_stops(worker: int) -> None:
    for signum in _STOPS:
        signal.signal(signum, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
