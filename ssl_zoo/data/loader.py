"""Batches of views for training, and of plain images for scoring.

The order of an epoch is a function of seed and epoch. A step's batch is a slice of that order, of which
each rank takes its part. Training can therefore stop at any step and resume with any number of ranks
and workers without changing a batch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ssl_zoo.augmentations import opencv, random
from ssl_zoo.augmentations.base import Augmentation
from ssl_zoo.augmentations.evaluation import Interpolation, PlainView, evaluation_view
from ssl_zoo.data.base import Dataset
from ssl_zoo.data.reader import (
    CorruptImages,
    LoadedBatch,
    faults_of,
    in_processes,
    load_readable,
)
from ssl_zoo.data.tensor_dataset import TensorDataset
from ssl_zoo.errors import UserError

__all__ = ["LoadedBatch", "Sampling", "ViewLoader", "evaluation_batches"]


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


@dataclass(frozen=True)
class _ViewMaker:
    """The work of a loader process; called with the position of a batch in an epoch's order."""

    dataset: Dataset
    augmentation: Augmentation[Any]
    with_labels: bool
    order: Tensor
    keys: Tensor
    batch_size: int

    def __call__(self, start: int) -> LoadedBatch:
        wanted = self.order[start : start + self.batch_size]
        keys = self.keys[start : start + self.batch_size]
        images, index, corrupt = load_readable(self.dataset, wanted)
        if len(images) < len(wanted):
            return LoadedBatch([], index, None, corrupt)
        sizes = torch.tensor([image.shape[1:] for image in images])
        views = self.augmentation.apply(images, self.augmentation.draw(sizes, keys))
        labels = _labels(self.dataset, index, self.with_labels)
        return LoadedBatch(views, index, labels, corrupt, self.augmentation.draw_masks(keys))


class ViewLoader:
    """Iterates over the batches of each epoch for one rank.

    Images in memory are kept and augmented on the device; image files are read and augmented in
    loader processes.

    Args:
        dataset: the training images.
        augmentation: makes the views.
        sampling: images of this rank.
        num_workers: loader processes, for images read from files.
        device: device on which the views are used.
        with_labels: whether batches contain labels.

    Raises:
        UserError: there are fewer images than one batch needs, an image has no label although
            labels are requested, or a batch cannot be split over the ranks.
    """

    def __init__(
        self,
        dataset: Dataset,
        augmentation: Augmentation[Any],
        sampling: Sampling,
        *,
        num_workers: int = 0,
        device: torch.device | str = "cpu",
        with_labels: bool = False,
    ) -> None:
        _check(dataset, sampling, with_labels)
        self.dataset = dataset
        self.augmentation = augmentation
        self.sampling = sampling
        self.batch_size = sampling.batch_size
        self.num_workers = num_workers
        self.device = torch.device(device)
        self.with_labels = with_labels
        self.corrupt = CorruptImages(dataset.max_corrupt, len(dataset))
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

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[LoadedBatch]:
        """Yields this rank's batches of an epoch, starting at `start_step`.

        Raises:
            UserError: more images fail to decode than the data set allows.
        """
        return self._batches(epoch, start_step, self.augmentation)

    def plain_epoch(self, epoch: int) -> Iterator[LoadedBatch]:
        """Yields the images of `epoch`, each as its evaluation view."""
        return self._batches(epoch, 0, PlainView(self.image_size))

    def first(self, n_images: int) -> LoadedBatch:
        """Returns the first images of this rank's first batch, with the same views as in the batch.

        Raises:
            UserError: more images fail to decode than the data set allows.
        """
        n_images = min(n_images, self.batch_size)
        return next(self._batches(0, 0, self.augmentation, n_images=n_images))

    def _batches(
        self,
        epoch: int,
        start_step: int,
        augmentation: Augmentation[Any],
        *,
        n_images: int | None = None,
    ) -> Iterator[LoadedBatch]:
        order = random.permutation(len(self.dataset), self.sampling.seed, epoch)
        keys = random.sample_keys(self.sampling.seed, epoch, order)
        first = self.sampling.rank * self.batch_size
        steps = range(start_step, self.steps_per_epoch)
        starts = [step * self.sampling.global_batch_size + first for step in steps]
        n_images = self.batch_size if n_images is None else n_images
        work = _ViewMaker(self.dataset, augmentation, self.with_labels, order, keys, n_images)
        if self._images is not None:
            return self._from_memory(self._images, work, starts)
        return self._from_files(work, starts)

    def _from_memory(
        self, images: Tensor, work: _ViewMaker, starts: list[int]
    ) -> Iterator[LoadedBatch]:
        sizes = torch.tensor(images.shape[2:]).expand(work.batch_size, 2)
        for start in starts:
            index = work.order[start : start + work.batch_size]
            keys = work.keys[start : start + work.batch_size]
            params = work.augmentation.draw(sizes, keys)
            views = work.augmentation.apply(images[index.to(self.device)], params)
            labels = _labels(self.dataset, index, self.with_labels)
            masks = work.augmentation.draw_masks(keys)
            yield LoadedBatch(views, index, labels, masks=masks)

    def _from_files(self, work: _ViewMaker, starts: list[int]) -> Iterator[LoadedBatch]:
        on_gpu = self.device.type == "cuda"
        loaded: LoadedBatch
        for loaded in in_processes(work, starts, num_workers=self.num_workers, pin_memory=on_gpu):
            self.corrupt.add(loaded.corrupt)
            if not loaded.views:
                raise UserError(
                    f"none of the {len(self.dataset)} images can be decoded; check data.root"
                )
            views = [view.to(self.device, non_blocking=True) for view in loaded.views]
            yield replace(loaded, views=views)


def _all_images(dataset: Dataset) -> Tensor:
    if isinstance(dataset, TensorDataset):
        return dataset.images  # avoids the copy that `load` makes
    images = dataset.load(torch.arange(len(dataset)))
    assert isinstance(images, Tensor)
    return images


def _labels(dataset: Dataset, index: Tensor, wanted: bool) -> Tensor | None:
    return dataset.labels[index] if wanted and dataset.labels is not None else None


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


@dataclass(frozen=True)
class _PlainReader:
    """The work of a loader process for scoring; called with the position of a batch in `positions`."""

    dataset: Dataset
    positions: Tensor
    batch_size: int
    size: int
    resize: int | None
    interpolation: Interpolation

    def __call__(self, start: int) -> tuple[Tensor, Tensor, dict[str, str]]:
        index = self.positions[start : start + self.batch_size]
        loaded = self.dataset.load(index)
        if isinstance(loaded, Tensor):
            return self._views(loaded), index, {}
        found = torch.tensor([image is not None for image in loaded])
        corrupt = faults_of(self.dataset, index[~found].tolist())
        return self._views([image for image in loaded if image is not None]), index[found], corrupt

    def _views(self, images: Tensor | Sequence[Tensor]) -> Tensor:
        return evaluation_view(
            images, self.size, resize=self.resize, interpolation=self.interpolation
        )


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
        UserError: more images fail to decode than the data set allows.
    """
    positions = torch.arange(len(dataset)) if indices is None else indices
    work = _PlainReader(dataset, positions, batch_size, size, resize, interpolation)
    corrupt = CorruptImages(dataset.max_corrupt, len(dataset))
    workers = 0 if dataset.in_memory else num_workers
    jobs = range(0, len(positions), batch_size)
    for views, index, names in in_processes(work, jobs, num_workers=workers):
        corrupt.add(names)
        if len(index):
            yield views, index
