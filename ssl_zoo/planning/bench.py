"""`bench(config)`: how fast a run loads and computes on this machine, and which of both bounds it."""

import json
import math
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch

from ssl_zoo import distributed
from ssl_zoo.errors import UserError
from ssl_zoo.planning.machine import Machine, this_machine
from ssl_zoo.runs.config import RunConfig
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.training.kernels import kernels
from ssl_zoo.training.pace import peak_memory
from ssl_zoo.training.train import Trainer

STEPS = 20
"""Number of steps that are timed in each part."""
MOST_SECONDS = 60.0
"""Time after which a part is not timed further."""
CLOSE = 1.15
"""Ratio of the times of loading and computing below which both bound a run."""


@dataclass(frozen=True)
class Bench:
    """The speed of a run on one process.

    Attributes:
        method: name of the method.
        batch_size: images per step of this process.
        views: views of each image.
        num_workers: loader processes.
        device: what computes.
        first_batch: seconds until the first batch.
        loading: seconds per batch of the loader alone, median.
        computing: seconds per step with a batch that is there, median.
        training: seconds per step of both together, median.
        host_gb: largest memory of this process so far, in GB.
        device_gb: largest memory of the GPU, in GB; 0 without one.
        bound: what bounds the run: `loading`, `computing`, or `both`.
        advice: what would change that.
    """

    method: str
    batch_size: int
    views: int
    num_workers: int
    device: str
    first_batch: float
    loading: float
    computing: float
    training: float
    host_gb: float
    device_gb: float
    bound: Literal["loading", "computing", "both"]
    advice: tuple[str, ...] = ()

    def text(self) -> str:
        """Returns the figures as a small table, and the verdict."""
        rows = [
            ("loader alone", self.loading),
            ("step alone", self.computing),
            ("both together", self.training),
        ]
        lines = [f"{'':14} {'s a step':>9} {'images/s':>9} {'views/s':>9}"]
        for name, seconds in rows:
            rate = self.batch_size / max(seconds, 1e-9)
            lines.append(f"{name:14} {seconds:9.3g} {rate:9,.0f} {rate * self.views:9,.0f}")
        memory = f"{self.host_gb:.1f} GB of memory"
        memory += f", {self.device_gb:.1f} GB on the GPU" if self.device_gb else ""
        workers = f"{self.num_workers} loader process{'es' * (self.num_workers != 1)}"
        lines += [
            f"{self.method}, batches of {self.batch_size}, {self.views} views, {workers}, "
            f"{self.device}; first batch after {self.first_batch:.2g} s; {memory}",
            f"bound by {self.bound if self.bound != 'both' else 'loading and computing alike'}",
            *(f"  {line}" for line in self.advice),
        ]
        return "\n".join(lines)

    def as_json(self) -> str:
        """Returns the figures as JSON."""
        return json.dumps(asdict(self), indent=2)


def bench(config: RunConfig, *, steps: int = STEPS) -> Bench:
    """Times the loader, steps, and both together, without leaving a run.

    The step is timed with one batch of the loader again and again.

    Args:
        config: the run; it is timed in this process, with the batch of one of its processes.
        steps: number of steps that are timed, after one that is not; at most those of the run.

    Raises:
        UserError: the method does not train, or the run cannot be built.
    """
    with (
        tempfile.TemporaryDirectory(prefix="ssl-zoo-bench-") as folder,
        distributed.process_group() as device,
        kernels(device, deterministic=config.deterministic),
    ):
        trainer = Trainer(config, RunFolder(Path(folder) / "run"), device)
        if not trainer.total_steps:
            raise UserError(
                f"method '{config.method.name}' does not train; there is nothing to time"
            )
        trainer.keep_decoded()
        steps = min(steps, trainer.total_steps - 1)
        first_batch, loading = _paces(trainer.loader.stream(0, steps + 1), steps)
        _, computing = _paces(trainer.losses(again=True), steps)
        trainer.state.step = 0  # a run may be too short for both
        _, training = _paces(trainer.losses(), steps)
        loads = trainer.loader.grant.num_workers
        views_by = trainer.loader.views_by
    bound = _bound(loading, computing)
    on_gpu, memory = device.type == "cuda", peak_memory(device)
    return Bench(
        method=config.method.name,
        batch_size=config.global_batch_size,
        views=sum(config.view_counts.values()),
        num_workers=loads,
        device=torch.cuda.get_device_name(device) if on_gpu else "on the CPU",
        first_batch=first_batch,
        loading=loading,
        computing=computing,
        training=training,
        host_gb=memory["host_gb"],
        device_gb=memory.get("device_gb", 0.0),
        bound=bound,
        advice=tuple(
            _advice(config, bound, this_machine(), ratio=loading / computing, views_by=views_by)
        ),
    )


def _paces(things: Iterable[Any], steps: int) -> tuple[float, float]:
    """Returns the seconds until the first thing, and the median until each of the next ones."""
    seconds = []
    begun = before = time.monotonic()
    for _ in islice(things, steps + 1):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.monotonic()
        seconds.append(now - before)
        before = now
        if now - begun > MOST_SECONDS:
            break
    return seconds[0], statistics.median(seconds[1:] or seconds)


def _bound(loading: float, computing: float) -> Literal["loading", "computing", "both"]:
    if loading > CLOSE * computing:
        return "loading"
    return "computing" if computing > CLOSE * loading else "both"


def _advice(
    config: RunConfig, bound: str, machine: Machine, *, ratio: float, views_by: str | None
) -> Iterator[str]:
    """Yields what would make the run faster, the most useful first.

    Args:
        ratio: time of loading over time of computing.
    """
    if bound != "computing" and views_by == "torch":
        yield "pip install 'ssl-zoo[fast]': OpenCV and simplejpeg halve the time of loading"
    if views_by is not None:
        yield from _about_workers(config.num_workers, bound, machine, ratio)
    if bound == "loading":
        return
    has_bf16 = machine.has_bf16 if machine.gpu else machine.cpu_has_bf16
    if has_bf16 and config.precision == "fp32":
        yield "precision=bf16: this machine has instructions for it"
    yield "fewer or smaller views: augmentation.crops.0.size, augmentation.local_crops=false"


def _about_workers(workers: int, bound: str, machine: Machine, ratio: float) -> Iterator[str]:
    """Yields how many loader processes would keep up with the network."""
    most = machine.cores if machine.gpu else machine.cores - 1  # a network on the CPU needs one
    needed = max(1, math.ceil(max(workers, 1) * ratio))
    enough = min(needed, most)
    if workers == 0 and most > 0:
        yield f"num_workers={enough}: images are then decoded while the network computes"
    elif bound == "loading" and workers < enough:
        yield f"num_workers={enough}"
    if bound == "loading" and needed > most:
        yield (
            f"{needed} loader processes would keep up, but this machine has {machine.cores} cores: use "
            "smaller files on a faster disk, or smaller crops"
        )
