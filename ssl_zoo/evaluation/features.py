"""Extraction of the features of a data set with a frozen network, in memory or to a cache on disk."""

import logging
import math
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ssl_zoo import distributed
from ssl_zoo.augmentations.evaluation import normalize
from ssl_zoo.data.base import Dataset
from ssl_zoo.data.plain_batches import Shown, image_batches
from ssl_zoo.data.reader import CorruptImages, LoadedBatch, faults_of
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.bar import progress_bar
from ssl_zoo.evaluation.cache import Block, CachedFeatures
from ssl_zoo.evaluation.view import Precision, ViewSpec
from ssl_zoo.evaluators.base import Features

logger = logging.getLogger(__name__)

GATHER_ROWS = 8192
"""Rows of features that each rank sends at once."""


def extract(
    network: nn.Module,
    dataset: Dataset,
    view: ViewSpec,
    *,
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    num_workers: int = 0,
    progress: bool = True,
    cached: CachedFeatures | None = None,
) -> Features:
    """Returns the features of all images in data set order; all ranks must call it.

    Without a cache, rank 0 has the values, which its evaluators use; those of other ranks are NaN.

    Each rank computes whole batches and each image is processed once, so the batches do not depend on
    the number of ranks. The network runs in eval mode; the modes of its modules and the random states
    are restored afterwards. Images that cannot be decoded are skipped with a warning, up to the number
    that the data set allows.

    Args:
        network: already on `device`; maps `(B, C, S, S)` to `(B, D)`.
        dataset: the images.
        view: how the network sees them, at `S` pixels.
        batch_size: images per forward pass of a rank.
        device: where the network is.
        num_workers: loader processes, for images read from files.
        progress: whether to show a bar if stderr is a terminal.
        cached: the cache; cached features are not computed again, and a memory map is returned. All
            ranks must see the same folder.

    Raises:
        UserError: too many images are broken, images changed while they were read, the network does not
            return vectors, or the cache cannot be written; raised on all ranks.
    """
    if cached is not None:
        whole = extract_to(
            cached,
            network,
            dataset,
            view,
            batch_size=batch_size,
            device=device,
            num_workers=num_workers,
            progress=progress,
        )
        return _assemble(dataset, _Part(0, whole.values, whole.kept, whole.digests))
    device = torch.device(device)
    compute = _pass(network, dataset, view, batch_size, device, num_workers, progress)
    part = _own_part(len(dataset), batch_size)
    stop = min(part.start + len(part.kept), len(dataset))
    with closing(compute(torch.arange(part.start, stop))) as batches:
        _fill(part, batches)
    gathered = _gather(part)
    distributed.on_main(dataset.refuse_changes)
    return _assemble(dataset, gathered)


def extract_to(
    cached: CachedFeatures,
    network: nn.Module,
    dataset: Dataset,
    view: ViewSpec,
    *,
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    num_workers: int = 0,
    progress: bool = True,
) -> Block:
    """Completes the cached features of a data set and returns them as a memory map, on all ranks.

    The arguments and errors are those of `extract`. Memory does not grow with the number of features.

    Returns:
        One row for each image; the rows that are not `kept` are of images that cannot be loaded.
    """
    compute = _pass(
        network, dataset, view, batch_size, torch.device(device), num_workers, progress
    )
    return _through_cache(cached, dataset, batch_size, compute)


def _pass(
    network: nn.Module,
    dataset: Dataset,
    view: ViewSpec,
    batch_size: int,
    device: torch.device,
    num_workers: int,
    progress: bool,
) -> "Callable[[Tensor], Generator[_Computed]]":
    """Returns a function that computes the features of images at given positions."""

    def compute(indices: Tensor) -> Generator[_Computed]:
        batches = image_batches(
            dataset,
            Shown(view.image_size, view.resize, view.interpolation),
            batch_size=batch_size,
            num_workers=num_workers,
            indices=indices,
            device=device,
            digested=True,
        )
        with (
            closing(batches),
            _frozen(network, device),
            progress_bar("features", len(indices), wanted=progress) as advance,
        ):
            for batch in batches:
                yield _computed(network, batch, dataset, view.precision)
                advance(len(batch.index))

    return compute


@dataclass(frozen=True)
class _Computed:
    """Features of one batch: positions `(B,)`, float32 `(B, D)`, and digests of the inputs."""

    index: NDArray[np.int64]
    values: NDArray[np.float32]
    digests: NDArray[np.uint64]


@dataclass
class _Part:
    """Features of consecutive images, which of them are present, and the error that ended the part."""

    start: int
    values: NDArray[np.float32]
    kept: NDArray[np.bool_]
    digests: NDArray[np.uint64]
    error: str | None = None


def _own_part(total: int, batch_size: int) -> _Part:
    """Returns the empty part of this rank; all parts have the same length, the last ones are padded."""
    share = math.ceil(math.ceil(total / batch_size) / distributed.world_size()) * batch_size
    start = min(distributed.rank() * share, total)
    return _empty_part(start, share if distributed.world_size() > 1 else total)


def _empty_part(start: int, rows: int) -> _Part:
    return _Part(
        start,
        np.zeros((rows, 0), dtype=np.float32),
        np.zeros(rows, dtype=np.bool_),
        np.zeros(rows, dtype=np.uint64),
    )


def _computed(
    network: nn.Module, batch: LoadedBatch, dataset: Dataset, precision: Precision
) -> _Computed:
    inputs = normalize(batch.views[0][0], dataset.config.mean, dataset.config.std)
    assert batch.digests is not None
    return _Computed(
        batch.index.numpy(), _run(network, inputs, precision).cpu().numpy(), batch.digests
    )


def _fill(part: _Part, batches: Iterator[_Computed]) -> None:
    """Writes batches into a part; a user's mistake is kept, to be raised on all ranks."""
    try:
        for batch in batches:
            _put(part, batch)
    except UserError as error:
        part.error = str(error)


def _put(part: _Part, batch: _Computed) -> None:
    if not part.kept.any():
        part.values = np.zeros((len(part.kept), batch.values.shape[1]), dtype=np.float32)
    rows = batch.index - part.start
    part.values[rows], part.digests[rows], part.kept[rows] = batch.values, batch.digests, True


def _through_cache(
    cached: CachedFeatures,
    dataset: Dataset,
    batch_size: int,
    compute: Callable[[Tensor], Generator[_Computed]],
) -> Block:
    """Returns features from a cache, which is completed first if necessary."""
    is_new = not distributed.from_main(lambda: _is_usable(cached, dataset))
    if is_new:
        with ExitStack() as held:  # a process that extracts the same features is waited for
            distributed.on_main(lambda: held.enter_context(cached.claimed()))
            if not distributed.from_main(lambda: _is_usable(cached, dataset)):
                distributed.on_main(lambda: cached.reopen(batch_size))
                _extract_to(cached, dataset, batch_size, compute)
    whole = cached.open()
    if not is_new:  # images that could not be loaded then still count
        lost = np.flatnonzero(~whole.kept).tolist()
        try:
            CorruptImages(dataset.max_corrupt, len(dataset)).add(faults_of(dataset, lost))
        except UserError as error:
            raise UserError.everywhere(str(error)) from None
    return whole


def _is_usable(cached: CachedFeatures, dataset: Dataset) -> bool:
    """Returns whether a cache is complete, and lacks no image that can be loaded now."""
    if not cached.is_complete():
        return False
    lost = np.flatnonzero(~cached.open().kept)[: dataset.max_corrupt + 1]
    loaded = [dataset.load(torch.tensor([place]))[0] for place in lost.tolist()]
    n_mended = sum(image is not None for image in loaded)
    if n_mended:
        logger.info("%d images that could not be read before are added to the cache", n_mended)
    return not n_mended


def _extract_to(
    cached: CachedFeatures,
    dataset: Dataset,
    batch_size: int,
    compute: Callable[[Tensor], Generator[_Computed]],
) -> None:
    """Computes the missing blocks of a cache, each on one rank, and completes the cache."""
    total, rows = len(dataset), cached.block_rows(batch_size)
    blocks = [range(start, min(start + rows, total)) for start in range(0, total, rows)]
    missing = distributed.from_main(lambda: cached.missing(total, rows))
    share = math.ceil(len(missing) / distributed.world_size())
    own = missing[distributed.rank() * share :][:share]
    error = None
    try:
        if own:
            indices = torch.cat([torch.arange(blocks[n].start, blocks[n].stop) for n in own])
            with closing(compute(indices)) as batches:
                for number, part in _in_blocks(batches, own, blocks):
                    cached.write(number, rows, total, Block(part.values, part.kept, part.digests))
    except UserError as problem:
        error = str(problem)
    distributed.raise_any(error)
    distributed.on_main(lambda: _finish(cached, dataset, len(blocks), rows))


def _finish(cached: CachedFeatures, dataset: Dataset, n_blocks: int, rows: int) -> None:
    """Marks a cache as complete; discards it if images changed while they were read."""
    try:
        dataset.refuse_changes()
    except UserError:
        cached.discard()
        raise
    cached.finish(n_blocks, rows)


def _in_blocks(
    batches: Iterator[_Computed], own: list[int], blocks: list[range]
) -> Iterator[tuple[int, _Part]]:
    """Yields each of this rank's blocks when all its images are processed."""
    waiting = iter(own)
    number = next(waiting)
    part = _empty_part(blocks[number].start, len(blocks[number]))
    for batch in batches:
        while batch.index[0] not in blocks[number]:  # the previous block is finished
            yield number, part
            number = next(waiting)
            part = _empty_part(blocks[number].start, len(blocks[number]))
        _put(part, batch)
    yield number, part
    for number in waiting:  # blocks without any decodable image
        yield number, _empty_part(blocks[number].start, len(blocks[number]))


def _run(network: nn.Module, inputs: Tensor, precision: Precision) -> Tensor:
    """Returns float32 features `(B, D)` of normalised images."""
    with _autocast(inputs.device, precision):
        output = network(inputs.contiguous(memory_format=torch.channels_last))
    if not isinstance(output, Tensor) or output.shape[:-1] != (len(inputs),):
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise UserError(
            f"the backbone returns {shape} for {len(inputs)} images; "
            "features must be one vector per image"
        )
    return output.float()


def _autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    if precision == "fp32":  # even if the caller uses autocast
        return torch.autocast(device.type, enabled=False)
    return torch.autocast(device.type, torch.bfloat16 if precision == "bf16" else torch.float16)


@contextmanager
def _frozen(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Keeps a network in eval mode without gradients; restores modes and random states."""
    modes = {module: module.training for module in network.modules()}
    cuda = [device] if device.type == "cuda" else []
    try:
        network.eval()
        with torch.random.fork_rng(devices=cuda), torch.inference_mode():
            yield
    finally:
        for module, training in modes.items():
            module.training = training


def _gather(part: _Part) -> _Part:
    """Puts the parts of all ranks together in rank 0's memory, a few rows at a time; no device is used.

    Other ranks get everything but the values: theirs are NaN, and take no memory.
    """
    facts = distributed.all_gather_object((part.values.shape[1], part.error))
    _raise_first([error for _, error in facts])
    ranks, share = len(facts), len(part.kept)
    if ranks == 1:
        return part
    width = max(width for width, _ in facts)
    if not part.kept.any():  # this rank has no images, or none is decodable
        part.values = np.zeros((share, width), dtype=np.float32)
    marks = distributed.gather(torch.from_numpy(part.kept.astype(np.uint8)))
    digests = distributed.gather(torch.from_numpy(part.digests.view(np.int64)))
    return _Part(
        0,
        _values_of_all(part.values, ranks),
        marks.numpy().astype(np.bool_),
        digests.numpy().view(np.uint64),
    )


def _values_of_all(own: NDArray[np.float32], ranks: int) -> NDArray[np.float32]:
    """Returns the values of all ranks in rank order, on rank 0; NaN elsewhere."""
    share, width = own.shape
    steps = [slice(begin, begin + GATHER_ROWS) for begin in range(0, share, GATHER_ROWS)]
    if not distributed.is_main():
        for rows in steps:
            distributed.send(torch.from_numpy(own[rows]), 0)
        return np.broadcast_to(np.float32(np.nan), (ranks * share, width))
    values = np.empty((ranks, share, width), dtype=np.float32)
    values[0] = own
    for rank in range(1, ranks):
        for rows in steps:
            distributed.receive(torch.from_numpy(values[rank, rows]), rank)
    return values.reshape(ranks * share, width)


def _raise_first(errors: list[str | None]) -> None:
    for error in errors:
        if error is not None:
            raise UserError.everywhere(error)


def _assemble(dataset: Dataset, whole: _Part) -> Features:
    """Removes the padding and the images that could not be decoded."""
    n = len(dataset)
    values, kept, digests = whole.values[:n], whole.kept[:n], whole.digests[:n]
    if not kept.any():
        raise UserError(f"none of the {n} images can be decoded; check the data set")
    labels = None if dataset.labels is None else dataset.labels.numpy().astype(np.int64)
    if kept.all():
        return Features(values, labels, digests=digests)
    chosen = np.flatnonzero(kept)
    # All rows of another rank are one and the same, see `_gather`: a copy would take memory.
    values = values[: len(chosen)] if values.strides[0] == 0 else values[chosen]
    return Features(values, None if labels is None else labels[chosen], chosen, digests[chosen])
