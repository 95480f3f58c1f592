"""Parts of batches: loader processes make views of a few images at a time, the main process joins them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_zoo.augmentations import random
from ssl_zoo.augmentations.base import Augmentation
from ssl_zoo.data.base import Dataset
from ssl_zoo.data.order import Order
from ssl_zoo.data.reader import LoadedBatch, load_readable
from ssl_zoo.errors import UserError

Job = tuple[int, NDArray[np.int64]]
"""An epoch, and positions of images in the data set, `(b,)`."""


@dataclass(frozen=True)
class Part:
    """Views of some images of a batch.

    Attributes:
        views: one tensor `(V, b, C, size, size)` per size, uint8 or float32 in [0, 1].
        index: position of each image in the data set, `(b,)`. It is an array, as each tensor that a
            loader process sends takes one of the main process's file descriptors.
        corrupt: images that could not be loaded and were replaced, with the reason.
        masks: patches to mask, `(b, M, L)` bool, or None if the augmentation draws none.
        digests: digest of each view, `(b,)`, or None if they are not wanted.
    """

    views: list[Tensor]
    index: NDArray[np.int64]
    corrupt: dict[str, str] = field(default_factory=dict)
    masks: Tensor | None = None
    digests: NDArray[np.uint64] | None = None

    def pin_memory(self) -> "Part":
        """Returns the part with views and masks in page-locked memory; torch's loader calls this."""
        masks = None if self.masks is None else self.masks.pin_memory()
        return replace(self, views=[view.pin_memory() for view in self.views], masks=masks)


@dataclass(frozen=True)
class Jobs(Sequence[Job]):
    """The jobs of a rank for the steps of a run, in order.

    Attributes:
        order: order of the images in each epoch.
        steps: steps of the run, counted over epochs.
        steps_per_epoch: number of steps of an epoch.
        step_size: images of a step, over all ranks.
        offset: position of the rank's first image in a step.
        batch_size: images of the rank in a step.
        job_size: images of a job; the last job of a step may have fewer.
    """

    order: Order
    steps: range
    steps_per_epoch: int
    step_size: int
    offset: int
    batch_size: int
    job_size: int

    @property
    def per_batch(self) -> int:
        """Number of jobs of each step."""
        return -(-self.batch_size // self.job_size)

    def __len__(self) -> int:
        return len(self.steps) * self.per_batch

    @overload
    def __getitem__(self, place: int) -> Job: ...
    @overload
    def __getitem__(self, place: slice) -> list[Job]: ...
    def __getitem__(self, place: int | slice) -> Job | list[Job]:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        number, part = divmod(place, self.per_batch)
        epoch, step = divmod(self.steps[number], self.steps_per_epoch)
        begin = step * self.step_size + self.offset
        start = begin + part * self.job_size
        stop = min(start + self.job_size, begin + self.batch_size)
        return epoch, self.order.part(epoch, start, stop).numpy()


@dataclass(frozen=True)
class ViewMaker:
    """The work of a loader process: called with a job, it returns the part.

    A part without images means that too many in a row cannot be loaded.
    """

    dataset: Dataset
    augmentation: Augmentation[Any]
    seed: int

    def __call__(self, job: Job) -> Part:
        epoch, places = job
        wanted = torch.from_numpy(places)
        keys = random.sample_keys(self.seed, epoch, wanted)
        try:
            images, index, corrupt = load_readable(self.dataset, wanted)
            if len(images) < len(wanted):
                return Part([], places[:0], corrupt)
            sizes = torch.tensor([image.shape[1:] for image in images])
            views = self.augmentation.apply(images, self.augmentation.draw(sizes, keys))
        except UserError:
            raise
        except Exception as error:
            error.add_note(f"while {self.blame(wanted)}")
            raise
        return Part(views, index.numpy(), corrupt, self.augmentation.draw_masks(keys))

    def blame(self, wanted: Tensor) -> str:
        """Returns which image makes loading fail, or which images had been loaded."""
        for place in wanted.tolist():
            try:
                self.dataset.load(torch.tensor([place]))
            except Exception:
                return f"loading '{self.dataset.describe(place)}'"
        first = self.dataset.describe(int(wanted[0]))
        return f"making views of {len(wanted)} images, the first of which is '{first}'"


def joined(parts: Iterable[Part], batch_size: int, device: torch.device) -> LoadedBatch:
    """Returns the batch that parts form, on a device.

    Each part is copied when it comes, so that its shared memory is free again.

    Args:
        parts: parts in order, which may have no images.
        batch_size: largest number of their images.
        device: where the batch is put.
    """
    views, masks = list[Tensor](), list[Tensor]()
    index, corrupt = [np.empty(0, dtype=np.int64)], dict[str, str]()
    digests, start = list[NDArray[np.uint64]](), 0
    for part in parts:
        corrupt |= part.corrupt
        stop = start + len(part.index)
        if stop == start:
            continue
        index.append(part.index)
        moved = [view.to(device, non_blocking=True) for view in part.views]
        if stop - start == batch_size:  # there is nothing to join
            views = moved
        else:
            views = views or [_room(view, batch_size, device) for view in moved]
            for whole, view in zip(views, moved, strict=True):
                whole[:, start:stop] = view
        if part.masks is not None:
            masks.append(part.masks)
        if part.digests is not None:
            digests.append(part.digests)
        start = stop
    return LoadedBatch(
        [view[:, :start] for view in views],
        torch.from_numpy(np.concatenate(index)),
        corrupt=corrupt,
        masks=torch.cat(masks) if masks else None,
        digests=np.concatenate(digests) if digests else None,
    )


def _room(view: Tensor, batch_size: int, device: torch.device) -> Tensor:
    """Returns room for the views of a batch, in the memory order of the part's views."""
    last = view.movedim(-3, -1)
    model = view if view.is_contiguous() else last
    shape = (len(view), batch_size, *model.shape[2:])
    room = torch.empty(shape, dtype=view.dtype, device=device)
    return room.movedim(-1, -3) if model is last else room


def image_bytes(view_counts: Mapping[int, int], config: Dataset.Config) -> int:
    """Returns the size of all views of an image, given the number of views of each size."""
    values = sum(count * size**2 for size, count in view_counts.items()) * config.channels
    return values if config.bits == 8 else 4 * values
