"""Times a few real steps of a run and counts their arithmetic, without leaving a run."""

import math
import statistics
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ssl_zoo import distributed
from ssl_zoo.errors import UserError
from ssl_zoo.runs.config import RunConfig
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.training.kernels import kernels
from ssl_zoo.training.train import Trainer

STEPS = 6
"""Number of steps that are timed, after a first one that is not."""
IMPORTS = 5.0
"""Seconds that a new process takes until it builds a run: importing torch, mostly."""
MOST_SECONDS = 60.0
"""Time after which no further step is begun."""


@dataclass(frozen=True)
class Pace:
    """How long the parts of a run take, in seconds.

    Attributes:
        start: from nothing to the first step.
        step: a step, the median of those timed.
        n_steps: number of steps that were timed.
        steps_per_epoch: number of steps of an epoch.
        flops: floating-point operations of a step; see `flops_of_step`.
    """

    start: float
    step: float
    n_steps: int
    steps_per_epoch: int = 0
    flops: int = 0


def rehearse(config: RunConfig, *, steps: int = STEPS) -> Pace:
    """Builds a run, takes a few steps with real images, and returns how long they took.

    Raises:
        UserError: the run cannot be built, or its loss is not finite.
    """
    begun = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="ssl-zoo-plan-") as folder,
        distributed.process_group() as device,
        kernels(device, deterministic=config.deterministic),
    ):
        trainer = Trainer(config, RunFolder(Path(folder) / "run"), device)
        trainer.keep_decoded()
        seconds: list[float] = []
        before = time.monotonic()
        for loss in trainer.losses():
            if not math.isfinite(loss):
                raise UserError(
                    f"the loss is {loss} in step {len(seconds) + 1} of a trial; lower optimizer.lr"
                )
            now = time.monotonic()
            seconds.append(now - before)
            before = now
            if len(seconds) > steps or now - begun > MOST_SECONDS:
                break
        flops = flops_of_step(trainer)
    timed = seconds[1:] or seconds
    return Pace(
        start=seconds[0] + IMPORTS,
        step=statistics.median(timed),
        n_steps=len(timed),
        steps_per_epoch=trainer.steps_per_epoch,
        flops=flops,
    )


def flops_of_step(trainer: Trainer) -> int:
    """Returns the floating-point operations of a step on this process; takes two steps of the run.

    They are counted by torch.utils.flop_counter: multiplications and additions of matrix products,
    convolutions and attention, forwards and backwards. Loading, augmentation, the optimizer and passes
    that some methods make between epochs are not in it.
    """
    from torch.utils.flop_counter import FlopCounterMode

    trainer.state.step = 0  # a run may be too short for more
    if trainer.total_steps < 2:
        return 0
    with closing(trainer.losses(again=True)) as steps, FlopCounterMode(display=False) as counter:
        next(steps)
        before = counter.get_total_flops()
        next(steps)
        return int(counter.get_total_flops() - before)
