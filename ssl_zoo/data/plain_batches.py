"""Batches of plain images for scoring: each image once, in order, as its evaluation view."""

import hashlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_zoo import distributed
from ssl_zoo.augmentations.evaluation import Interpolation, evaluation_view
from ssl_zoo.data.base import Dataset
from ssl_zoo.data.parts import Part, image_bytes, joined
from ssl_zoo.data.processes import in_processes
from ssl_zoo.data.reader import CorruptImages, LoadedBatch, faults_of
from ssl_zoo.data.workers import Cut, Grant, cut, shared_memory


@dataclass(frozen=True)
class Shown:
    """How images are shown in scoring; see `evaluation_view`.

    Attributes:
        size: height and width of the views.
        resize: size that images have before they are cropped.
        interpolation: how they are resized.
    """

    size: int
    resize: int | None = None
    interpolation: Interpolation = "bilinear"

    def view(self, images: Tensor | Sequence[Tensor]) -> Tensor:
        """Returns the views `(B, C, size, size)`."""
        return evaluation_view(
            images, self.size, resize=self.resize, interpolation=self.interpolation
        )


@dataclass(frozen=True)
class _PlainReader:
    """The work of a loader process for scoring; called with a part of `positions`."""

    dataset: Dataset
    positions: Tensor
    shown: Shown
    digested: bool

    def __call__(self, job: range) -> Part:
        index = self.positions[job.start : job.stop]
        loaded = self.dataset.load(index)
        images: Tensor | list[Tensor]
        if isinstance(loaded, Tensor):
            images, corrupt = loaded, dict[str, str]()
        else:
            found = torch.tensor([image is not None for image in loaded])
            corrupt = faults_of(self.dataset, index[~found].tolist())
            index, images = index[found], [image for image in loaded if image is not None]
        if not len(index):
            return Part([], index.numpy(), corrupt)
        views = self.shown.view(images)
        if not self.digested:
            return Part([views[None]], index.numpy(), corrupt)
        digests = np.array(list(map(view_digest, views.numpy())), dtype=np.uint64)
        return Part([views[None]], index.numpy(), corrupt, digests=digests)


def view_digest(view: NDArray[Any]) -> int:
    """Returns a 64-bit digest of an image."""
    found = hashlib.sha1(view.tobytes(), usedforsecurity=False).digest()
    return int.from_bytes(found[:8], "little")


def evaluation_batches(
    dataset: Dataset,
    *,
    batch_size: int,
    size: int,
    resize: int | None = None,
    interpolation: Interpolation = "bilinear",
    num_workers: int = 0,
    indices: Tensor | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields each image once, in order; skips images that cannot be decoded, with a warning.

    Args:
        dataset: the images.
        batch_size: images per batch; batches with undecodable images are smaller.
        size: height and width of the views.
        resize: see `evaluation_view`.
        interpolation: see `evaluation_view`.
        num_workers: loader processes, for images read from files.
        indices: positions to read; all by default.

    Yields:
        Views `(B, C, size, size)`, uint8 or float32 in [0, 1], and their positions in the data set, `(B,)`.

    Raises:
        UserError: more images fail to decode than the data set allows, or a process was killed.
    """
    batches = image_batches(
        dataset,
        Shown(size, resize, interpolation),
        batch_size=batch_size,
        num_workers=num_workers,
        indices=indices,
    )
    with closing(batches):
        for batch in batches:
            yield batch.views[0][0], batch.index


def image_batches(
    dataset: Dataset,
    shown: Shown,
    *,
    batch_size: int,
    num_workers: int = 0,
    indices: Tensor | None = None,
    device: torch.device | str = "cpu",
    digested: bool = False,
) -> Generator[LoadedBatch]:
    """Yields each image once, in order, as one view `(1, B, C, size, size)` on a device.

    Args:
        dataset: the images; those that cannot be decoded are skipped with a warning.
        shown: how they are shown.
        batch_size: images per batch; batches with undecodable images are smaller.
        num_workers: loader processes, for images read from files.
        indices: positions to read; all by default.
        device: where the views are put.
        digested: whether batches have a digest of each view.

    Raises:
        UserError: as `evaluation_batches`.
    """
    positions = torch.arange(len(dataset)) if indices is None else indices
    work = _PlainReader(dataset, positions, shown, digested)
    corrupt, device = CorruptImages(dataset.max_corrupt, len(dataset)), torch.device(device)
    how, workers = Cut(batch_size, 1), 0 if dataset.in_memory else num_workers
    if workers:
        memory = shared_memory() / distributed.world_size()
        n_bytes = image_bytes({shown.size: 1}, dataset.config)
        how = cut(batch_size, n_bytes, Grant(workers, memory))
    batches = [
        range(start, min(start + batch_size, len(positions)))
        for start in range(0, len(positions), batch_size)
    ]
    jobs = [
        batch[start : start + how.job]
        for batch in batches
        for start in range(0, len(batch), how.job)
    ]
    on_gpu = device.type == "cuda"
    parts = in_processes(work, jobs, num_workers=workers, ahead=how.ahead, pin_memory=on_gpu)
    with closing(parts):
        for batch in batches:
            found = joined(islice(parts, -(-len(batch) // how.job)), len(batch), device)
            corrupt.add(found.corrupt)
            if len(found.index):
                yield found
