"""Features of a whole data set from a frozen backbone, and numbers that show their collapse."""

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ssl_zoo import distributed
from ssl_zoo.augmentations.evaluation import Interpolation, normalize
from ssl_zoo.data.base import Dataset
from ssl_zoo.data.loader import evaluation_batches
from ssl_zoo.errors import UserError
from ssl_zoo.evaluators.base import Features

Precision = Literal["fp32", "bf16", "fp16"]

GATHER_ROWS = 8192
"""Rows of features that each rank sends at a time."""


def extract(
    backbone: nn.Module,
    dataset: Dataset,
    *,
    image_size: int,
    resize: int | None = None,
    interpolation: Interpolation = "bilinear",
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    precision: Precision = "fp32",
    num_workers: int = 0,
    progress: bool = True,
) -> Features:
    """Returns the features of all images in the order of the data set, on all ranks.

    Each rank computes a contiguous part, each image once. The backbone is in eval mode meanwhile;
    afterwards its modules are as before, and so are the random states. Images that cannot be
    decoded are left out, with a warning, as far as the data set allows.

    Args:
        backbone: on `device` already; maps `(B, 3, S, S)` to `(B, D)`.
        image_size: height and width `S` of the centre crop that the backbone sees.
        resize: shorter side before that crop; `image_size` unless given.
        interpolation: `bilinear`, or `bicubic` as in DINO's protocol.
        precision: of the backbone's arithmetic; features are float32 always.
        progress: whether to show a bar if stderr is a terminal.

    Raises:
        UserError: too many images are broken, or the backbone returns no vectors; on all ranks.
    """
    device = torch.device(device)
    part = _own_part(len(dataset))
    batches = evaluation_batches(
        dataset,
        batch_size=batch_size,
        size=image_size,
        resize=resize,
        interpolation=interpolation,
        num_workers=num_workers,
        indices=torch.arange(part.start, min(part.start + len(part.kept), len(dataset))),
    )
    with _frozen(backbone, device), _bar(progress, len(part.kept)) as advance:
        inputs = _normalized(batches, dataset, device)
        _fill(part, backbone, inputs, precision=precision, advance=advance)
    return _assemble(dataset, _gather(part, device=device))


@dataclass
class _Part:
    """Features of neighbouring images, which of them there are, and why there are no more."""

    start: int
    values: NDArray[np.float32]
    kept: NDArray[np.bool_]
    error: str | None = None


def _own_part(total: int) -> _Part:
    """Returns the part of this rank, still empty; parts are of one length, the last are padded."""
    share = math.ceil(total / distributed.world_size())
    start = min(distributed.rank() * share, total)
    return _Part(start, np.zeros((share, 0), dtype=np.float32), np.zeros(share, dtype=np.bool_))


def _normalized(
    batches: Iterator[tuple[Tensor, Tensor]], dataset: Dataset, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    for images, index in batches:
        yield normalize(images.to(device), dataset.config.mean, dataset.config.std), index


def _fill(
    part: _Part,
    backbone: nn.Module,
    batches: Iterator[tuple[Tensor, Tensor]],
    *,
    precision: Precision,
    advance: Callable[[int], None],
) -> None:
    """Computes features of normalised images; a mistake of the user is kept for all ranks."""
    try:
        for images, index in batches:
            features = _run(backbone, images, precision).cpu().numpy()
            if not part.kept.any():
                part.values = np.zeros((len(part.kept), features.shape[1]), dtype=np.float32)
            rows = index.numpy() - part.start
            part.values[rows], part.kept[rows] = features, True
            advance(len(index))
    except UserError as error:
        part.error = str(error)


def _run(backbone: nn.Module, inputs: Tensor, precision: Precision) -> Tensor:
    """Returns float32 features `(B, D)` of normalised images."""
    with _autocast(inputs.device, precision):
        output = backbone(inputs.contiguous(memory_format=torch.channels_last))
    if not isinstance(output, Tensor) or output.shape[:-1] != (len(inputs),):
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise UserError(
            f"the backbone returns {shape} for {len(inputs)} images; "
            "features must be one vector for each image"
        )
    return output.float()


def _autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    if precision == "fp32":  # whatever surrounds the extraction
        return torch.autocast(device.type, enabled=False)
    return torch.autocast(device.type, torch.bfloat16 if precision == "bf16" else torch.float16)


@contextmanager
def _frozen(backbone: nn.Module, device: torch.device) -> Iterator[None]:
    """Holds a backbone in eval mode without gradients; restores modules and random states."""
    modes = {module: module.training for module in backbone.modules()}
    cuda = [device] if device.type == "cuda" else []
    try:
        backbone.eval()
        with torch.random.fork_rng(devices=cuda), torch.inference_mode():
            yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def _bar(wanted: bool, total: int) -> Iterator[Callable[[int], None]]:
    """Yields a function that moves a bar on; it does nothing unless stderr is a terminal."""
    if not (wanted and distributed.is_main() and sys.stderr.isatty()):
        yield lambda n: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("features", total=total)
        yield lambda n: bar.advance(task, n)


def _gather(part: _Part, *, device: torch.device) -> _Part:
    """Concatenates the parts of all ranks, a few rows at a time to spare device memory."""
    facts = distributed.all_gather_object((part.values.shape[1], part.error))
    for _, error in facts:
        if error is not None:
            raise UserError(error)
    ranks, share = len(facts), len(part.kept)
    if ranks == 1:
        return part
    width = max(width for width, _ in facts)
    if not part.kept.any():  # this rank has no images, or none that can be decoded
        part.values = np.zeros((share, width), dtype=np.float32)
    values = np.empty((ranks, share, width), dtype=np.float32)
    for begin in range(0, share, GATHER_ROWS):
        rows = torch.from_numpy(part.values[begin : begin + GATHER_ROWS]).to(device)
        gathered = distributed.gather(rows).view(ranks, len(rows), width)
        values[:, begin : begin + len(rows)] = gathered.cpu().numpy()
    marks = distributed.gather(torch.from_numpy(part.kept.astype(np.uint8)).to(device))
    return _Part(0, values.reshape(ranks * share, width), marks.cpu().numpy().astype(np.bool_))


def _assemble(dataset: Dataset, whole: _Part) -> Features:
    """Cuts the padding off and leaves out what could not be decoded."""
    values, kept = whole.values[: len(dataset)], whole.kept[: len(dataset)]
    if not kept.any():
        raise UserError(f"none of the {len(kept)} images can be decoded; check the data set")
    labels = None if dataset.labels is None else dataset.labels.numpy().astype(np.int64)
    if kept.all():
        return Features(values, labels)
    return Features(values[kept], None if labels is None else labels[kept])


@torch.no_grad()
def feature_std(features: Tensor) -> Tensor:
    """Returns how evenly directions of features `(N, D)` spread: near 1 is healthy, 0 collapsed.

    The standard deviation of each coordinate of unit-length features, averaged and multiplied by
    the square root of D (Chen and He, 2021, arXiv:2011.10566, section 4.1).
    """
    unit = functional.normalize(features.double(), dim=1)
    return (unit.std(dim=0, correction=0).mean() * math.sqrt(features.shape[1])).float()


@torch.no_grad()
def effective_rank(features: Tensor) -> Tensor:
    """Returns the effective rank of features `(N, D)`, from 1 to min(N, D); NaN if not finite.

    The exponential of the entropy of normalised singular values (Roy and Vetterli, "The effective
    rank", EUSIPCO 2007), as in RankMe (Garrido et al., 2023, arXiv:2210.02885): not centred. All
    zeros have rank 0.
    """
    matrix = features.double()
    if not matrix.isfinite().all():
        return torch.full((), math.nan, device=features.device)
    wide = matrix.shape[0] < matrix.shape[1]
    gram = matrix @ matrix.T if wide else matrix.T @ matrix
    singular = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    if singular.sum() == 0:
        return torch.zeros((), device=features.device)
    shares = singular / singular.sum()
    entropy: Tensor = torch.special.entr(shares).sum()
    return entropy.exp().float()
