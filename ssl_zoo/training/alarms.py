"""Alarms: metrics that indicate a failing run."""

import math
from collections.abc import Iterable

from ssl_zoo.method import Alarm

COLLAPSE_ALARMS = (
    Alarm(
        metric="feature_std",
        below=0.05,
        advice="features of different images are nearly equal: lower optimizer.lr, lengthen "
        "schedule.warmup, or use stronger views",
    ),
    Alarm(
        metric="effective_rank",
        below=2.0,
        advice="features vary along little more than one direction: lower optimizer.lr or use larger "
        "batches",
    ),
)


class AlarmBell:
    """Reports once, in one line, if a metric stays out of bounds.

    Args:
        alarms: the alarms to watch.
        quiet_steps: number of initial steps without alarms, because untrained networks trigger them.
        late_step: step after which `above_late` counts; None if it never does.
    """

    def __init__(
        self, alarms: Iterable[Alarm], *, quiet_steps: int, late_step: int | None = None
    ) -> None:
        self._alarms = [*alarms]
        self._quiet_steps, self._late_step = quiet_steps, late_step
        self._streaks = [0] * len(self._alarms)

    def hear(self, step: int, metrics: dict[str, float]) -> list[str]:
        """Returns a line for each alarm that is triggered at this step."""
        lines = []
        for index, alarm in enumerate(self._alarms):
            value = metrics.get(alarm.metric)
            if value is None or step <= self._quiet_steps:
                continue
            is_late = self._late_step is not None and step > self._late_step
            above = min(alarm.above, alarm.above_late) if is_late else alarm.above
            out = value > above or value < alarm.below or math.isnan(value)
            self._streaks[index] = self._streaks[index] + 1 if out else 0
            if self._streaks[index] == alarm.patience:
                lines.append(f"step {step}: {alarm.metric} is {value:.3g}: {alarm.advice}")
        return lines
