"""Small runs and batches that tests share."""

from collections.abc import Iterable

import torch
from torch import Tensor

from ssl_zoo.backbones.tiny import TinyResNet
from ssl_zoo.method import Batch, Method, Progress, RunInfo
from ssl_zoo.registries import METHODS
from ssl_zoo.run_config import RunConfig, run_config

FAST = (
    "backbone.widths=[8, 16]",
    "backbone.stem_stride=4",
    "global_batch_size=32",
    "schedule.warmup=2 steps",
    "log_every=5",
    "evaluation.every=0 epochs",
)
"""Overrides that make a step take milliseconds."""

SHORT = ("epochs=1", "global_batch_size=256", "checkpoint.every=2 steps")
"""Overrides, after those, that make a run of five steps with three checkpoints, of which two stay."""


def fast_config(method: str, *overrides: str) -> RunConfig:
    """Returns a run of the `digits` recipe with a network of a few thousand parameters."""
    return run_config(method, overrides=[*FAST, *overrides])


def run_info(batch_size: int = 8, *, rank: int = 0, world_size: int = 1) -> RunInfo:
    """Returns sizes of a run with 10 steps an epoch."""
    return RunInfo(
        n_samples=10 * batch_size,
        global_batch_size=batch_size,
        steps_per_epoch=10,
        total_steps=100,
        rank=rank,
        world_size=world_size,
    )


def progress(step: int = 0) -> Progress:
    """Returns the progress of a run with 10 steps an epoch."""
    return Progress(step, step // 10, 100, 10)


def batch(n_images: int = 8, counts: Iterable[tuple[int, int]] = ((32, 2), (16, 2))) -> Batch:
    """Returns random views, `(size, count)` each; seeded by the global generator."""
    views: list[Tensor] = [torch.randn(count, n_images, 3, size, size) for size, count in counts]
    return Batch(views, torch.arange(n_images))


def tiny_backbone() -> TinyResNet:
    """Returns a network of a few thousand parameters with 16 features."""
    return TinyResNet(TinyResNet.Config(widths=[8, 16], stem_stride=4))


def small_method(name: str, *overrides: str, run: RunInfo | None = None) -> Method:
    """Builds a method from its `digits` recipe around a tiny backbone."""
    config = fast_config(name, *overrides).method
    method: Method = METHODS.build(config, backbone=tiny_backbone(), run=run or run_info())
    return method
