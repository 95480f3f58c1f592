"""Builds loader, method and batches from a config."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ssl_zoo import distributed
from ssl_zoo.augmentations.base import AUGMENTATIONS
from ssl_zoo.augmentations.evaluation import normalize
from ssl_zoo.backbones.base import BACKBONES
from ssl_zoo.data.base import Dataset
from ssl_zoo.data.loader import LoadedBatch, Sampling, ViewLoader
from ssl_zoo.data.workers import granted
from ssl_zoo.errors import UserError
from ssl_zoo.method import METHODS, Batch, Method, RunInfo
from ssl_zoo.runs.config import RunConfig
from ssl_zoo.training.compiled import compile_networks
from ssl_zoo.training.frozen_networks import open_frozen
from ssl_zoo.training.initial import InitialWeights
from ssl_zoo.training.recompute import recompute_blocks
from ssl_zoo.training.sync_batch_norm import synchronize


def build_loader(config: RunConfig, dataset: Dataset, device: torch.device) -> ViewLoader:
    """Returns this rank's loader; all ranks must call it.

    Raises:
        UserError: the batch cannot be split evenly, or the data set is too small.
    """
    world_size = distributed.world_size()
    parts = world_size * config.accumulate
    if config.global_batch_size % parts:
        raise UserError(
            f"global_batch_size of {config.global_batch_size} cannot be split over {world_size} "
            f"processes with accumulate={config.accumulate}; use a multiple of {parts}"
        )
    needs_labels = METHODS[config.method.name].needs_labels
    if needs_labels and dataset.labels is not None and (dataset.labels < 0).any():
        n_missing = int((dataset.labels < 0).sum())
        raise UserError(
            f"method '{config.method.name}' needs a label for each image, but {n_missing} of "
            f"{len(dataset)} training images have none; label them, or leave them out of the data"
        )
    return ViewLoader(
        dataset,
        AUGMENTATIONS.build(config.augmentation),
        Sampling(
            config.global_batch_size,
            rank=distributed.rank(),
            world_size=world_size,
            seed=config.seed,
        ),
        grant=granted(config.num_workers),
        device=device,
        with_labels=needs_labels,
    )


def build_method(
    config: RunConfig,
    dataset: Dataset,
    steps_per_epoch: int,
    device: torch.device,
    *,
    initial: InitialWeights | None = None,
) -> Method:
    """Returns the method with its backbone on the device, with synchronised batch statistics.

    Args:
        config: settings of the run.
        dataset: the training images.
        steps_per_epoch: number of optimizer steps of an epoch.
        device: device of this rank.
        initial: weights of the backbone. They are loaded first, so that a teacher is a copy of them.

    Raises:
        UserError: the settings do not fit the data, or the weights the backbone.
    """
    counts = config.view_counts
    data: Any = dataset.config
    run = RunInfo(
        n_samples=len(dataset),
        global_batch_size=config.global_batch_size,
        steps_per_epoch=steps_per_epoch,
        total_steps=config.total_steps(steps_per_epoch),
        image_size=next(iter(counts)),
        n_global=next(iter(counts.values())),
        n_classes=len(dataset.class_names) or None,
        rank=distributed.rank(),
        world_size=distributed.world_size(),
        mean=tuple(data.mean),
        std=tuple(data.std),
        networks=open_frozen(config.method, device),
    )
    backbone = BACKBONES.build(config.backbone)
    if initial is not None:
        initial.fill(backbone, config.backbone)
    method: Method = METHODS.build(config.method, backbone=backbone, run=run)
    if initial is not None:
        initial.tell(method, dataset.config)
    method.to(device)
    if config.channels_last:
        method.to(memory_format=torch.channels_last)
    synchronize(method, config.sync_batch_norm, device)
    if config.checkpoint_activations:
        recompute_blocks(method.backbone)
    if config.compile:
        compile_networks(method, device)
    return method.train()


def check_durations(config: RunConfig, method: Method) -> None:
    """Checks that what happens in a part of a run fits into it.

    Raises:
        UserError: a duration is not shorter than the run.
    """
    total, steps_per_epoch = method.run.total_steps, method.run.steps_per_epoch
    named = {f"method.{name}": each for name, each in method.durations().items()}
    if config.init is not None and config.init.freeze_layers is None:
        named["init.freeze"] = config.init.freeze
    for name, duration in named.items():
        steps = duration.steps(steps_per_epoch)
        if steps and steps >= total:
            fits = max(1, min(steps_per_epoch, total // 10))
            text = f" ({steps} steps)" if duration.unit == "epochs" else ""
            raise UserError.everywhere(
                f"{name} of {duration}{text} is not shorter than the run, which has {total} "
                f"optimizer steps; use at most {total - 1} steps, for example {name}='{fits} steps'"
            )


def ddp_flags(device: torch.device, *, deterministic: bool = False) -> dict[str, bool]:
    """Returns how DistributedDataParallel is to treat gradients.

    Without looking for unused parameters, torch changes the layout of gradients after the first step. Sums
    over more than two ranks depend on the layout in the last digit, so a resumed run would differ from an
    uninterrupted one. It looks for them where runs are exact, on a CPU and with deterministic kernels. On a
    GPU looking costs a walk over the graph in each step, and gradients can be the buckets of the
    communication themselves, which saves a copy and memory. `static_graph` is no option: it looks for the
    loss only in tuples, lists and dictionaries, and with any other output averages nothing in its first step.

    Args:
        device: device of the ranks.
        deterministic: whether a GPU uses deterministic kernels.
    """
    if device.type == "cpu" or deterministic:
        return {"find_unused_parameters": True}
    return {"find_unused_parameters": False, "gradient_as_bucket_view": True}


def wrap(method: Method, device: torch.device, *, deterministic: bool = False) -> nn.Module:
    """Returns the method with gradients averaged over ranks; the method itself for one process."""
    if distributed.world_size() == 1:
        return method
    flags: dict[str, Any] = dict(ddp_flags(device, deterministic=deterministic))
    spare = device.type == "cpu" and flags["find_unused_parameters"]
    # Buffers are not broadcast: that would overwrite state that differs between ranks. The
    # argument that replaces this one in newer versions broadcasts them once, at the start.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*broadcast_buffers", category=FutureWarning)
        return nn.parallel.DistributedDataParallel(
            _WithSpare(method) if spare else method, broadcast_buffers=False, **flags
        )


class _WithSpare(nn.Module):
    """A method with an unused parameter, so that torch does not warn that there is none.

    On a GPU, a parameter without gradient would require synchronisation in each step.
    """

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method
        self.spare = nn.Parameter(torch.zeros(()))

    def forward(self, *arguments: Any) -> Any:
        return self.method(*arguments)


def to_batch(loaded: LoadedBatch, config: RunConfig, device: torch.device) -> Batch:
    """Returns a loaded batch, normalised, on the device and in the memory format of the run."""
    data: Any = config.data
    views = [
        normalize(group.to(device, non_blocking=True), data.mean, data.std)
        for group in loaded.views
    ]
    if config.channels_last:
        views = [channels_last(group) for group in views]
    labels = loaded.labels.to(device, non_blocking=True) if loaded.labels is not None else None
    index = loaded.index.to(device, non_blocking=True)
    if loaded.masks is None:
        return Batch(views, index, labels)
    masks = loaded.masks.to(device, non_blocking=True)
    return Batch(views, index, labels, masks, n_hidden=loaded.masks.sum(dim=2))


@dataclass(frozen=True)
class LoadedEpoch:
    """The images of an epoch for passes between epochs; see `EpochData`."""

    loader: ViewLoader
    epoch: int
    config: RunConfig
    device: torch.device

    def views(self) -> Iterator[Batch]:
        """Yields the training batches of the epoch."""
        return self._batches(self.loader.epoch(self.epoch))

    def images(self) -> Iterator[Batch]:
        """Yields the same images with evaluation transforms."""
        return self._batches(self.loader.plain_epoch(self.epoch))

    def _batches(self, loaded: Iterator[LoadedBatch]) -> Iterator[Batch]:
        return (to_batch(batch, self.config, self.device) for batch in loaded)


def channels_last(group: Tensor) -> Tensor:
    """Returns views `(V, B, C, H, W)` with images in channels-last format."""
    flat = group.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    return flat.view(*group.shape[:2], *flat.shape[1:])


def split_batch(batch: Batch, parts: int) -> list[Batch]:
    """Splits a batch into parts of equal size."""
    if parts == 1:
        return [batch]
    views = [group.chunk(parts, dim=1) for group in batch.views]
    index = batch.index.chunk(parts)
    labels = batch.labels.chunk(parts) if batch.labels is not None else [None] * parts
    masks = batch.masks.chunk(parts) if batch.masks is not None else [None] * parts
    counts = batch.n_hidden.chunk(parts) if batch.n_hidden is not None else [None] * parts
    return [
        Batch(
            [group[part] for group in views], index[part], labels[part], masks[part], counts[part]
        )
        for part in range(parts)
    ]
