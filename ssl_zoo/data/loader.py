"""Batches of views for training.

The order of an epoch is a function of seed and epoch. A step's batch is a slice of that order, of which
each rank takes its part. Training can therefore stop at any step and resume with any number of ranks
and workers without changing a batch.
"""

from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from ssl_zoo.augmentations import opencv, random
from ssl_zoo.augmentations.base import Augmentation
from ssl_zoo.augmentations.evaluation import PlainView
from ssl_zoo.data.base import Dataset
from ssl_zoo.data.order import Order
from ssl_zoo.data.parts import Jobs, Part, ViewMaker, image_bytes, joined
from ssl_zoo.data.processes import in_processes
from ssl_zoo.data.reader import CorruptImages, LoadedBatch
from ssl_zoo.data.tensor_dataset import TensorDataset
from ssl_zoo.data.workers import ALONE, Cut, Grant, cut
from ssl_zoo.errors import UserError

__all__ = ["LoadedBatch", "Sampling", "ViewLoader"]


@dataclass(frozen=True)
class Sampling:
    """Which images a process sees at which step.

    Attributes:
        global_batch_size: images per step, over all processes.
        rank: rank of this process.
        world_size: number of processes.
        seed: seed of order and views.
    """

    global_batch_size: int
    rank: int = 0
    world_size: int = 1
    seed: int = 0

    @property
    def batch_size(self) -> int:
        """Images per step and process."""
        return self.global_batch_size // self.world_size


class ViewLoader:
    """Iterates over the batches of each epoch for one rank.

    Images in memory are kept and augmented on the device; image files are read and augmented in
    loader processes.

    Args:
        dataset: the training images.
        augmentation: makes the views.
        sampling: images of this rank.
        grant: loader processes and their shared memory, for images read from files.
        device: device on which the views are used.
        with_labels: whether batches contain labels.

    Raises:
        UserError: there are fewer images than one batch needs, an image has no label although
            labels are requested, a batch cannot be split over the ranks, or there is no shared memory
            for loader processes.
    """

    def __init__(
        self,
        dataset: Dataset,
        augmentation: Augmentation[Any],
        sampling: Sampling,
        *,
        grant: Grant = ALONE,
        device: torch.device | str = "cpu",
        with_labels: bool = False,
    ) -> None:
        _check(dataset, sampling, with_labels)
        self.dataset = dataset
        self.augmentation = augmentation
        self.sampling = sampling
        self.batch_size = sampling.batch_size
        self.grant = ALONE if dataset.in_memory else grant
        self.device = torch.device(device)
        self.with_labels = with_labels
        self.corrupt = CorruptImages(dataset.max_corrupt, len(dataset))
        self.cut = self._cut(augmentation)
        self._images = _all_images(dataset).to(self.device) if dataset.in_memory else None

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in an epoch; the remaining images are dropped."""
        return len(self.dataset) // self.sampling.global_batch_size

    @property
    def image_size(self) -> int:
        """Height and width of the global crops."""
        return next(iter(self.augmentation.view_counts))

    @property
    def views_by(self) -> str | None:
        """`OpenCV` with its version, or `torch`, for image files whose views either can make."""
        if self._images is not None:
            return None
        config = self.dataset.config
        if (config.channels, config.bits) != (3, 8):
            return None
        return f"OpenCV {opencv.version()}" if opencv.installed() else "torch"

    def stream(self, first: int, last: int) -> Generator[LoadedBatch]:
        """Yields this rank's batches of steps `first` to `last - 1` of a run, over all its epochs.

        The loader processes are the same from the first batch to the last. They end if the iterator is
        closed.

        Raises:
            UserError: more images fail to decode than the data set allows, or a process was killed.
        """
        return self._batches(range(first, last), self.augmentation, self.cut)

    def epoch(self, epoch: int, start_step: int = 0) -> Generator[LoadedBatch]:
        """Yields this rank's batches of an epoch, starting at `start_step`.

        Raises:
            UserError: as `stream`.
        """
        return self._batches(self._steps(epoch, start_step), self.augmentation, self.cut)

    def plain_epoch(self, epoch: int) -> Generator[LoadedBatch]:
        """Yields the images of `epoch`, each as its evaluation view."""
        plain = PlainView(self.image_size)
        return self._batches(self._steps(epoch, 0), plain, self._cut(plain))

    def first(self, n_images: int) -> LoadedBatch:
        """Returns the first images of this rank's first batch, with the same views as in the batch.

        Raises:
            UserError: more images fail to decode than the data set allows.
        """
        index = self._order().part(0, self._offset, self._offset + min(n_images, self.batch_size))
        if self._images is not None:
            return self._from_memory(self._images, self.augmentation, 0, index)
        work = ViewMaker(self.dataset, self.augmentation, self.sampling.seed)
        return self._joined([work((0, index.numpy()))], len(index))

    @property
    def _offset(self) -> int:
        return self.sampling.rank * self.batch_size

    def _steps(self, epoch: int, start: int) -> range:
        return range(epoch * self.steps_per_epoch + start, (epoch + 1) * self.steps_per_epoch)

    def _order(self) -> Order:
        return Order(len(self.dataset), self.sampling.seed)

    def _cut(self, augmentation: Augmentation[Any]) -> Cut:
        if not self.grant.num_workers:
            return Cut(self.batch_size, 1)
        n_bytes = image_bytes(augmentation.view_counts, self.dataset.config)
        return cut(self.batch_size, n_bytes, self.grant)

    def _batches(
        self, steps: range, augmentation: Augmentation[Any], how: Cut
    ) -> Generator[LoadedBatch]:
        jobs = Jobs(
            self._order(),
            steps,
            steps_per_epoch=self.steps_per_epoch,
            step_size=self.sampling.global_batch_size,
            offset=self._offset,
            batch_size=self.batch_size,
            job_size=how.job,
        )
        if self._images is not None:
            for epoch, index in jobs:
                yield self._from_memory(self._images, augmentation, epoch, torch.from_numpy(index))
            return
        work = ViewMaker(self.dataset, augmentation, self.sampling.seed)
        parts = in_processes(
            work,
            jobs,
            num_workers=self.grant.num_workers,
            ahead=how.ahead,
            pin_memory=self.device.type == "cuda",
        )
        with closing(parts):
            for _ in steps:
                yield self._joined(islice(parts, jobs.per_batch), self.batch_size)

    def _from_memory(
        self, images: Tensor, augmentation: Augmentation[Any], epoch: int, index: Tensor
    ) -> LoadedBatch:
        sizes = torch.tensor(images.shape[2:]).expand(len(index), 2)
        keys = random.sample_keys(self.sampling.seed, epoch, index)
        params = augmentation.draw(sizes, keys)
        views = augmentation.apply(images[index.to(self.device)], params)
        return LoadedBatch(views, index, self._labels(index), masks=augmentation.draw_masks(keys))

    def _joined(self, parts: Iterable[Part], n_images: int) -> LoadedBatch:
        """Returns the batch that jobs made, on the device."""
        batch = joined(parts, n_images, self.device)
        self.corrupt.add(batch.corrupt)
        if len(batch.index) < n_images:
            raise UserError(
                f"none of the {len(self.dataset)} images can be decoded; check data.root"
            )
        return replace(batch, labels=self._labels(batch.index))

    def _labels(self, index: Tensor) -> Tensor | None:
        if not self.with_labels:
            return None
        assert self.dataset.labels is not None
        return self.dataset.labels[index]


def _all_images(dataset: Dataset) -> Tensor:
    if isinstance(dataset, TensorDataset):
        return dataset.images  # avoids the copy that `load` makes
    images = dataset.load(torch.arange(len(dataset)))
    assert isinstance(images, Tensor)
    return images


def _check(dataset: Dataset, sampling: Sampling, with_labels: bool) -> None:
    global_batch_size, world_size = sampling.global_batch_size, sampling.world_size
    if global_batch_size % world_size:
        raise UserError(
            f"global_batch_size of {global_batch_size} cannot be split over {world_size} "
            f"processes; use a multiple of {world_size}"
        )
    if len(dataset) < global_batch_size:
        raise UserError(
            f"data set of {len(dataset)} images is smaller than global_batch_size of "
            f"{global_batch_size}; set global_batch_size={len(dataset)} or less"
        )
    if with_labels:
        _check_labels(dataset)


def _check_labels(dataset: Dataset) -> None:
    labels, n_classes = dataset.labels, len(dataset.class_names)
    if labels is None:
        raise UserError(
            "this method needs labels, but the data set has none; choose another data set"
        )
    if labels.ndim != 1:
        raise UserError(
            f"this method needs one class per image, but each label marks {labels.shape[1]} classes; "
            "choose another data set"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or (n_classes and high >= n_classes):
        raise UserError(
            f"this method needs a class for each image, but labels range from {low} to {high} and the "
            f"data set has {n_classes} classes; remove images without a class"
        )
