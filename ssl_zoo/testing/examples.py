"""Small runs, methods with a few thousand parameters, and batches of random images to test them."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ssl_zoo.backbones.base import BACKBONES
from ssl_zoo.method import METHODS, Batch, Method, RunInfo
from ssl_zoo.runs.config import RunConfig, run_config
from ssl_zoo.schedule import Progress
from ssl_zoo.training.frozen_networks import open_frozen

TINY = {
    "tiny_resnet": (
        "backbone.widths=[8, 16]",
        "backbone.stem_stride=4",
        "augmentation.crops=[{size: 16, count: 2, scale: [0.3, 1.0]}]",
    ),
    "conv_tokenizer": ("backbone.n_codes=16", "backbone.width=8", "backbone.code_width=8"),
    "vit": ("backbone.width=16", "backbone.depth=1", "backbone.heads=2"),
}
"""Overrides that give a `digits` recipe a network of a few thousand parameters and fewer, smaller views."""
FROZEN = {
    "tokenizer": "untrained:{name: conv_tokenizer, n_codes: 16, patch_size: 4, width: 8, blocks: 1}"
}
"""Tiny random networks for the fields of methods that need a frozen one."""
QUICK = (
    "global_batch_size=32",
    "schedule.warmup=2 steps",
    "log_every=5",
    "evaluation.every=0 epochs",
)
"""Overrides with which a step of such a recipe takes milliseconds."""
COUNTS = ((32, 2), (16, 2))
"""Sizes and counts of the views of a batch."""
N_PATCHES = 64
"""Number of 4x4 patches in the first view of a batch."""


def fast_config(method: str, *overrides: str) -> RunConfig:
    """Returns a run of the `digits` recipe with a network of a few thousand parameters."""
    config = run_config(method)
    tiny = TINY.get(config.backbone.name, ())
    missing = [name for name in FROZEN if getattr(config.method, name, "") is None]
    frozen = [f"method.{name}={json.dumps(FROZEN[name])}" for name in missing]
    return run_config(method, overrides=[*tiny, *QUICK, *frozen, *overrides])


def run_info(
    batch_size: int = 8,
    *,
    rank: int = 0,
    world_size: int = 1,
    image_size: int = 32,
    n_global: int = 2,
) -> RunInfo:
    """Returns the facts of a run with 10 steps per epoch."""
    return RunInfo(
        n_samples=10 * batch_size,
        global_batch_size=batch_size,
        steps_per_epoch=10,
        total_steps=100,
        image_size=image_size,
        n_global=n_global,
        n_classes=4,
        rank=rank,
        world_size=world_size,
    )


def progress_at(step: int = 0) -> Progress:
    """Returns the progress of a run with 10 steps per epoch."""
    return Progress(step, step // 10, 100, 10)


def random_batch(
    n_images: int = 8,
    counts: Iterable[tuple[int, int]] = COUNTS,
    *,
    start: int = 0,
    n_patches: int = N_PATCHES,
) -> Batch:
    """Returns a batch of random views, `(size, count)` each, labels and masks, from the global
    generator.

    Args:
        start: position of the first image in the data set.
        n_patches: number of patches of a global crop, half of which are hidden.
    """
    views: list[Tensor] = [torch.randn(count, n_images, 3, size, size) for size, count in counts]
    hidden = torch.rand(n_images, len(views[0]), n_patches).argsort(dim=2) < n_patches // 2
    index = torch.arange(start, start + n_images)
    return Batch(views, index, labels=index % 4, masks=hidden)


class RandomEpoch:
    """Ten random batches, the epoch data of `run_info`'s run; the same on each iteration."""

    def __init__(
        self,
        n_images: int = 8,
        counts: Iterable[tuple[int, int]] = COUNTS,
        *,
        n_patches: int = N_PATCHES,
        placed: Callable[[Batch], Batch] = lambda batch: batch,
    ) -> None:
        self.n_images, self.counts, self.n_patches = n_images, tuple(counts), n_patches
        self._placed = placed

    def moved(self, placed: Callable[[Batch], Batch]) -> "RandomEpoch":
        """Returns the same epoch with each batch moved by a function, such as to a device."""
        return RandomEpoch(self.n_images, self.counts, n_patches=self.n_patches, placed=placed)

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
                random_batch(
                    self.n_images, counts, start=step * self.n_images, n_patches=self.n_patches
                )
                for step in range(10)
            ]
        yield from map(self._placed, batches)


def build_small(config: RunConfig, run: RunInfo) -> Method:
    """Builds the method of a run around its backbone, with the frozen networks that it names."""
    data: Any = config.data
    networks = open_frozen(config.method, torch.device("cpu"))
    run = replace(run, networks=networks, mean=tuple(data.mean), std=tuple(data.std))
    backbone = BACKBONES.build(config.backbone)
    method: Method = METHODS.build(config.method, backbone=backbone, run=run)
    return method


@dataclass(frozen=True)
class Example:
    """A small run of a method and the batches that fit it.

    Attributes:
        name: name of the method.
        config: settings of a run of its `digits` recipe.
    """

    name: str
    config: RunConfig

    @classmethod
    def of(cls, name: str, overrides: Iterable[str] = ()) -> "Example":
        """Returns the example of a registered method."""
        return cls(name, fast_config(name, *overrides))

    @property
    def n_global(self) -> int:
        """Number of global crops per image."""
        return max(2, METHODS[self.name].min_global)

    @property
    def counts(self) -> tuple[tuple[int, int], ...]:
        """Sizes and counts of the views of a batch: global crops, and local crops of half their size."""
        size = self.config.image_size
        return (size, self.n_global), (size // 2, 2)

    @property
    def n_patches(self) -> int:
        """Number of patches of the first view, for masks."""
        mask: Any = getattr(self.config.augmentation, "mask", None)
        patch_size = mask.patch_size if mask is not None else 4
        return int(self.config.image_size // patch_size) ** 2

    def method(self) -> Method:
        """Returns a new method with the weights of seed 0."""
        torch.manual_seed(0)
        run = run_info(400, image_size=self.config.image_size, n_global=self.n_global)
        return build_small(self.config, run)

    def batch(self, n_images: int = 8, *, local_crops: bool = True) -> Batch:
        """Returns random views, labels and masks."""
        return random_batch(n_images, self._shown(local_crops), n_patches=self.n_patches)

    def epoch(self, *, local_crops: bool = True) -> RandomEpoch:
        """Returns ten random batches."""
        return RandomEpoch(counts=self._shown(local_crops), n_patches=self.n_patches)

    def _shown(self, local_crops: bool) -> tuple[tuple[int, int], ...]:
        return self.counts if local_crops else self.counts[:1]
