"""Reads image files in loader processes and turns them into views there."""

import logging
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from ssl_zoo.data.base import Dataset
from ssl_zoo.errors import UserError

logger = logging.getLogger(__name__)

_NAMED = 5  # corrupt images named in a message
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)
"""Signals that ask a run to stop; launchers send them to all its processes."""


@dataclass(frozen=True)
class LoadedBatch:
    """A process's part of a batch of views, before normalisation.

    Attributes:
        views: one tensor `(V, B, C, size, size)` per size, uint8 or float32 in [0, 1].
        index: position of each image in the data set, `(B,)`, on the CPU.
        labels: `(B,)`, or None if not requested.
        corrupt: images that could not be loaded and were replaced, with the reason.
        masks: patches to mask, `(B, L)` bool, or None if the augmentation draws none.
    """

    views: list[Tensor]
    index: Tensor
    labels: Tensor | None = None
    corrupt: dict[str, str] = field(default_factory=dict)
    masks: Tensor | None = None

    def pin_memory(self) -> "LoadedBatch":
        """Returns the batch with views and masks in page-locked memory; torch's loader calls this."""
        masks = None if self.masks is None else self.masks.pin_memory()
        return replace(self, views=[view.pin_memory() for view in self.views], masks=masks)


@dataclass
class CorruptImages:
    """Counts images that cannot be loaded, each once, and stops a run that finds too many.

    Args:
        limit: number of images allowed.
        n_images: number of images in the data set.
        names: the images so far, with the reason; it is empty if an image cannot be decoded.
    """

    limit: int
    n_images: int
    names: dict[str, str] = field(default_factory=dict)

    def add(self, faults: Mapping[str, str]) -> None:
        """Records images with the reason, and logs a warning for new ones.

        Raises:
            UserError: the limit is exceeded.
        """
        new = {name: why for name, why in faults.items() if name not in self.names}
        if not new:
            return
        self.names.update(new)
        logger.warning("cannot %s %s; %d so far", _verb(new), shorten(new), len(self.names))
        if len(self.names) > self.limit:
            raise UserError(
                f"{len(self.names)} of {self.n_images} images cannot be {_verb(self.names)}d, more than "
                f"data.max_corrupt={self.limit} allows: {shorten(self.names)}; fix or remove "
                "them, or raise data.max_corrupt"
            )


def _verb(faults: Mapping[str, str]) -> str:
    return "use" if any(faults.values()) else "decode"


def shorten(faults: Mapping[str, str]) -> str:
    """Returns the first names with their reasons, and the number of further ones."""
    texts = [f"'{name}' ({why})" if why else f"'{name}'" for name, why in faults.items()]
    more = f" and {len(texts) - _NAMED} more" if len(texts) > _NAMED else ""
    return ", ".join(texts[:_NAMED]) + more


def faults_of(dataset: Dataset, index: Iterable[int]) -> dict[str, str]:
    """Returns the names of images that cannot be loaded, with the reasons."""
    return {dataset.describe(place): dataset.fault(place) for place in index}


def load_readable(dataset: Dataset, index: Tensor) -> tuple[list[Tensor], Tensor, dict[str, str]]:
    """Loads images; an image that cannot be loaded is replaced by the next one that can.

    Returns:
        The images, their actual positions `(B,)`, and the names of those replaced with the reasons.
        There are fewer images than requested only if too many in a row cannot be loaded.
    """
    images, places, corrupt = [], [], list[int]()
    for image, place in zip(dataset.load(index), index.tolist(), strict=True):
        for _ in range(min(len(dataset), dataset.max_corrupt + 1)):
            if image is not None:
                break
            corrupt.append(place)
            place = (place + 1) % len(dataset)
            image = dataset.load(torch.tensor([place]))[0]
        if image is not None:
            images.append(image)
            places.append(place)
    return images, torch.tensor(places), faults_of(dataset, dict.fromkeys(corrupt))


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
            return self.work(job)
        except UserError as error:
            return _Refusal(str(error))


def in_processes(
    work: Any, jobs: Sequence[Any], *, num_workers: int, pin_memory: bool = False
) -> Iterator[Any]:
    """Yields `work(job)` for each job, in order; in this process if there are no workers.

    Workers ignore these signals: they end with their parent process, which may need them until it
    has saved.

    Args:
        work: a function or callable object; results are tensors, or containers of them.
        jobs: arguments of the calls.
        num_workers: processes, each with one thread.
        pin_memory: whether results are in page-locked memory, for copies to a GPU.

    Raises:
        UserError: a call raised one.
    """
    if num_workers == 0 or not jobs:
        yield from map(work, jobs)
        return
    loader: DataLoader[Any] = DataLoader(
        _Jobs(work),
        batch_size=None,
        sampler=jobs,
        num_workers=min(num_workers, len(jobs)),
        prefetch_factor=2,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # otherwise it draws from the global generator
        worker_init_fn=_ignore_stops,
    )
    with _stops_held_back():
        batches = iter(loader)  # starts the workers
    for found in batches:
        if isinstance(found, _Refusal):
            raise UserError(found.message)
        yield found


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
