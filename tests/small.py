"""Small runs and batches that tests share."""

from ssl_zoo.backbones.tiny import TinyResNet
from ssl_zoo.method import Method, RunInfo
from ssl_zoo.testing.examples import (
    COUNTS,
    N_PATCHES,
    QUICK,
    TINY,
    build_small,
    fast_config,
    run_info,
)
from ssl_zoo.testing.examples import RandomEpoch as Epoch
from ssl_zoo.testing.examples import progress_at as progress
from ssl_zoo.testing.examples import random_batch as batch

__all__ = [
    "COUNTS",
    "FAST",
    "LOCAL_CROPS",
    "N_PATCHES",
    "QUICK",
    "SHORT",
    "TINY",
    "Epoch",
    "batch",
    "fast_config",
    "progress",
    "run_info",
    "small_method",
    "tiny_backbone",
]

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


def tiny_backbone() -> TinyResNet:
    """Returns a network of a few thousand parameters with 16 features."""
    return TinyResNet(TinyResNet.Config(widths=[8, 16], stem_stride=4))


def small_method(name: str, *overrides: str, run: RunInfo | None = None) -> Method:
    """Builds a method from its `digits` recipe around a tiny backbone of the recipe's kind."""
    return build_small(fast_config(name, *overrides), run or run_info())
