"""Small runs and batches that tests share."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from ssl_zoo.backbones.base import BACKBONES
from ssl_zoo.backbones.tiny import TinyResNet
from ssl_zoo.method import METHODS, Batch, Method, RunInfo
from ssl_zoo.runs.config import RunConfig, run_config
from ssl_zoo.schedule import Progress

TINY = {
    "tiny_resnet": ("backbone.widths=[8, 16]", "backbone.stem_stride=4"),
    "vit": ("backbone.width=16", "backbone.depth=1", "backbone.heads=2"),
}
"""Overrides that leave the backbone of a `digits` recipe a few thousand parameters."""
QUICK = (
    "global_batch_size=32",
    "schedule.warmup=2 steps",
    "log_every=5",
    "evaluation.every=0 epochs",
)
FAST = (*TINY["tiny_resnet"], *QUICK)
"""Overrides that make a step of a recipe with a `tiny_resnet` take milliseconds."""

SHORT = ("epochs=1", "global_batch_size=256", "checkpoint.every=2 steps")
"""Overrides, after those, that make a run of five steps with three checkpoints, of which two stay."""

LOCAL_CROPS = (
    "augmentation.crops=[{size: 32, count: 2, scale: [0.4, 1]},"
    " {size: 16, count: 2, scale: [0.2, 0.6]}]",
    "augmentation.local_crops=true",
)
"""Overrides that give a recipe two global and two local crops."""


def fast_config(method: str, *overrides: str) -> RunConfig:
    """Returns a run of the `digits` recipe with a network of a few thousand parameters."""
    backbone = run_config(method).backbone.name
    return run_config(method, overrides=[*TINY[backbone], *QUICK, *overrides])


def run_info(batch_size: int = 8, *, rank: int = 0, world_size: int = 1) -> RunInfo:
    """Returns sizes of a run with 10 steps an epoch."""
    return RunInfo(
        n_samples=10 * batch_size,
        global_batch_size=batch_size,
        steps_per_epoch=10,
        total_steps=100,
        n_classes=4,
        rank=rank,
        world_size=world_size,
    )


def progress(step: int = 0) -> Progress:
    """Returns the progress of a run with 10 steps an epoch."""
    return Progress(step, step // 10, 100, 10)


COUNTS = ((32, 2), (16, 2))
"""Sizes and numbers of the views of a batch."""
N_PATCHES = 64
"""Patches of 4x4 pixels in the first view of a batch."""


def batch(
    n_images: int = 8, counts: Iterable[tuple[int, int]] = COUNTS, *, start: int = 0
) -> Batch:
    """Returns random views, `(size, count)` each, labels and masks; seeded by the global generator.

    Args:
        start: position of the first image in the data set.
    """
    views: list[Tensor] = [torch.randn(count, n_images, 3, size, size) for size, count in counts]
    hidden = torch.rand(n_images, N_PATCHES).argsort(dim=1) < N_PATCHES // 2
    index = torch.arange(start, start + n_images)
    return Batch(views, index, labels=index % 4, masks=hidden)


class Epoch:
    """Ten random batches, the data of an epoch of `run_info`'s run; the same each time."""

    def __init__(self, n_images: int = 8, counts: Iterable[tuple[int, int]] = COUNTS) -> None:
        self.n_images, self.counts = n_images, tuple(counts)

    def views(self) -> Iterator[Batch]:
        """Yields the batches."""
        return self._batches(self.counts)

    def images(self) -> Iterator[Batch]:
        """Yields one view of each image."""
        return self._batches(((self.counts[0][0], 1),))

    def _batches(self, counts: Iterable[tuple[int, int]]) -> Iterator[Batch]:
        with torch.random.fork_rng():
            torch.manual_seed(7)
            batches = [
                batch(self.n_images, counts, start=step * self.n_images) for step in range(10)
            ]
        yield from batches


def tiny_backbone() -> TinyResNet:
    """Returns a network of a few thousand parameters with 16 features."""
    return TinyResNet(TinyResNet.Config(widths=[8, 16], stem_stride=4))


def small_method(name: str, *overrides: str, run: RunInfo | None = None) -> Method:
    """Builds a method from its `digits` recipe around a tiny backbone of the recipe's kind."""
    config = fast_config(name, *overrides)
    backbone = BACKBONES.build(config.backbone)
    method: Method = METHODS.build(config.method, backbone=backbone, run=run or run_info())
    return method
