"""Times a few real steps of a run, without leaving a run."""

import math
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from ssl_zoo import distributed
from ssl_zoo.errors import UserError
from ssl_zoo.runs.config import RunConfig
from ssl_zoo.runs.folder import RunFolder
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
    """

    start: float
    step: float
    n_steps: int


def rehearse(config: RunConfig, *, steps: int = STEPS) -> Pace:
    """Builds a run, takes a few steps with real images, and returns how long they took.

    Raises:
        UserError: the run cannot be built, or its loss is not finite.
    """
    begun = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="ssl-zoo-plan-") as folder,
        distributed.process_group() as device,
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
    timed = seconds[1:] or seconds
    return Pace(start=seconds[0] + IMPORTS, step=statistics.median(timed), n_steps=len(timed))
