"""Output of training: progress bar, metrics.jsonl, trackers and alarms."""

import logging
import sys
import time
from datetime import timedelta
from types import TracebackType
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ssl_zoo import distributed
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.training.alarms import AlarmBell
from ssl_zoo.training.side_files import MetricsFile
from ssl_zoo.training.tracking import Tracking

logger = logging.getLogger(__name__)


SECONDS_BETWEEN_LINES = 30.0
"""Seconds between progress lines if there is no progress bar, as in a job's log."""


class Reporter:
    """Writes metrics and draws the progress bar on rank 0; does nothing on other ranks.

    Args:
        folder: folder of `metrics.jsonl`.
        total_steps: number of steps of the run.
        start_step: step that the run resumes from.
        seconds_before: training time of earlier starts of the run.
        bell: checks metrics for alarms.
        tracking: the trackers, on rank 0.
        bar: whether to draw a progress bar; by default, if standard error is a terminal.

    Attributes:
        warned: whether an alarm rang.
    """

    def __init__(
        self,
        folder: RunFolder,
        *,
        total_steps: int,
        start_step: int,
        seconds_before: float,
        bell: AlarmBell,
        tracking: Tracking | None = None,
        bar: bool | None = None,
    ) -> None:
        self._is_main = distributed.is_main()
        self.warned = False
        self._bell = bell
        self._start = time.monotonic() - seconds_before
        self._total_steps, self._from = total_steps, (start_step, time.monotonic())
        self._said = time.monotonic()
        self._file = MetricsFile(folder.metrics_file) if self._is_main else None
        self._tracking = tracking
        draw = sys.stderr.isatty() if bar is None else bar
        self._bar = self._open_bar() if draw and self._is_main else None
        if self._bar is not None:
            self._task = self._bar.add_task(
                "training", total=total_steps, completed=start_step, note=""
            )

    def __enter__(self) -> "Reporter":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        if self._file is not None:
            self._file.close()
        if self._tracking is not None:
            self._tracking.close()

    @property
    def seconds(self) -> float:
        """Training time of all starts of the run."""
        return time.monotonic() - self._start

    def advance(self, step: int) -> None:
        """Advances the progress bar."""
        if self._bar is not None:
            self._bar.update(self._task, completed=step)

    def log(
        self, step: int, epoch: int, prefix: str, metrics: dict[str, float], *, headline: str = ""
    ) -> None:
        """Writes one line of metrics.

        Args:
            step: number of optimizer steps taken.
            epoch: current epoch.
            prefix: prefix of the names of the metrics.
            metrics: metrics by name.
            headline: metric of an evaluation to show if there is room for only one.
        """
        if self._file is None:
            return
        record: dict[str, Any] = {
            "step": step,
            "epoch": epoch,
            "seconds": round(time.monotonic() - self._start, 3),
            **{f"{prefix}/{name}": value for name, value in metrics.items()},
        }
        self._file.write(record)
        if self._tracking is not None:
            self._tracking.write({f"{prefix}/{name}": metrics[name] for name in metrics}, step)
        for line in self._bell.hear(step, metrics):
            logger.warning(line)
            self.warned = True
        note = _note(prefix, metrics, headline)
        if self._bar is None:
            self._say(step, note)
        elif note:
            self._bar.update(self._task, note=note)

    def _say(self, step: int, note: str) -> None:
        """Logs a progress line if enough time has passed since the last one."""
        now = time.monotonic()
        if now - self._said < SECONDS_BETWEEN_LINES and step < self._total_steps:
            return
        self._said = now
        first, since = self._from
        left = (self._total_steps - step) * (now - since) / max(step - first, 1)
        eta = timedelta(seconds=round(left))
        logger.info("step %d of %d, %s, %s left", step, self._total_steps, note, eta)

    def _open_bar(self) -> Progress:
        from rich.console import Console

        return Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )


def _note(prefix: str, metrics: dict[str, float], headline: str = "") -> str:
    if "loss" in metrics:
        return f"loss {metrics['loss']:.3f}"
    name = headline or next(iter(metrics), None)
    return f"{prefix} {name} {metrics[name]:.1f}" if name else ""
