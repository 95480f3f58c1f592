"""Alarms: metrics that indicate a failing run. Training hears them, and `ssl-zoo doctor` reads them again."""

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from ssl_zoo.method import Alarm

TRAIN = "train/"
"""What names of metrics of training begin with in `metrics.jsonl`."""
QUIET_PART = 0.1
"""Initial fraction of a run without alarms, because untrained networks trigger them."""
COMMON_ALARMS = (
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
    Alarm(
        metric="queue_age_share",
        above=0.1,
        patience=5,
        advice="the queue is stale, its oldest embeddings are of a network too different from today's: use a "
        "shorter queue (method.queue_length), start it later, or lower optimizer.lr",
    ),
    Alarm(
        metric="loss_scale",
        below=1.0,
        advice="fp16 overflows, so steps are skipped: use precision=bf16 or fp32, or lower optimizer.lr",
    ),
)
"""Alarms of every method."""
SPEED_ALARMS = (
    Alarm(
        metric="data_share",
        above=0.5,
        advice="training waits for images more than it computes: raise num_workers up to the cores granted, "
        "or use smaller files on a faster disk",
    ),
    Alarm(
        metric="saving_share",
        above=0.2,
        patience=1,
        advice="writing checkpoints takes more than a fifth of the time: raise checkpoint.every, or use a "
        "faster disk for the run folder",
    ),
)
"""Alarms for slow runs; their results are right, so training does not ring them."""


@dataclass(frozen=True)
class Decline:
    """An alarm for a metric that has fallen far below its own highest level.

    A level is the median of `window` consecutive logged values.
    """

    metric: str
    advice: str
    share: float = 0.5
    """Share of the highest level below which it rings."""
    window: int = 5


DECLINES = (
    Decline(
        metric="effective_rank",
        advice="features vary along fewer and fewer directions: lower optimizer.lr or "
        "optimizer.weight_decay, and prefer an earlier checkpoint",
    ),
)


@dataclass(frozen=True)
class Ring:
    """An alarm that rings.

    Attributes:
        step: step at which it began to.
        metric: metric that is out of bounds.
        value: its newest value.
        advice: what is wrong, and what to do.
    """

    step: int
    metric: str
    value: float
    advice: str

    def __str__(self) -> str:
        """Says it in one line."""
        return f"step {self.step}: {self.metric} is {self.value:.3g}: {self.advice}"


class AlarmBell:
    """Reports once, in one line, if a metric stays out of bounds.

    Args:
        alarms: the alarms to watch.
        quiet_steps: number of initial steps without alarms, because untrained networks trigger them.
        late_step: step after which `above_late` counts; None if it never does.
        declines: alarms for falling metrics to watch.
    """

    def __init__(
        self,
        alarms: Iterable[Alarm],
        *,
        quiet_steps: int,
        late_step: int | None = None,
        declines: Iterable[Decline] = (),
    ) -> None:
        self._alarms = [*alarms]
        self._quiet_steps, self._late_step = quiet_steps, late_step
        self._streaks = [0] * len(self._alarms)
        self._falls = [_Fall(decline) for decline in declines]
        self._ringing: dict[str, Ring] = {}

    @property
    def ringing(self) -> list[Ring]:
        """The alarms that still ring: their metrics have not been within bounds since."""
        return [*self._ringing.values()]

    def hear(self, step: int, metrics: Mapping[str, float]) -> list[str]:
        """Returns a line for each alarm that is triggered at this step."""
        if step <= self._quiet_steps:
            return []
        rang = []
        for index, alarm in enumerate(self._alarms):
            value = metrics.get(alarm.metric)
            if value is None:
                continue
            out = self._is_out(alarm, step, value)
            self._streaks[index] = self._streaks[index] + 1 if out else 0
            found = Ring(step, alarm.metric, value, alarm.advice)
            rang += self._note(f"{index}", found, self._streaks[index] >= alarm.patience)
        for fall in self._falls:
            value = metrics.get(fall.decline.metric)
            if value is not None:
                found = Ring(step, fall.decline.metric, value, fall.decline.advice)
                rang += self._note(f"fall of {found.metric}", found, fall.hear(value))
        return [str(one) for one in rang]

    def _is_out(self, alarm: Alarm, step: int, value: float) -> bool:
        is_late = self._late_step is not None and step > self._late_step
        above = min(alarm.above, alarm.above_late) if is_late else alarm.above
        return value > above or value < alarm.below or math.isnan(value)

    def _note(self, key: str, found: Ring, rings: bool) -> list[Ring]:
        """Keeps an alarm while it rings, and returns it if it begins to."""
        before = self._ringing.pop(key, None)
        if not rings:
            return []
        first = before.step if before else found.step
        self._ringing[key] = Ring(first, found.metric, found.value, found.advice)
        return [] if before else [found]


class _Fall:
    """The highest level of a metric so far."""

    def __init__(self, decline: Decline) -> None:
        self.decline = decline
        self._newest: deque[float] = deque(maxlen=decline.window)
        self._highest = 0.0

    def hear(self, value: float) -> bool:
        """Takes a value, and returns whether the metric is now far below its highest level."""
        self._newest.append(value)
        if len(self._newest) < self.decline.window:
            return False
        level = median(self._newest)
        self._highest = max(self._highest, level)
        return level < self.decline.share * self._highest


def hear_again(bell: AlarmBell, records: Iterable[Mapping[str, Any]]) -> list[str]:
    """Lets a bell hear metrics that were logged before, and returns the lines of alarms that rang.

    Args:
        bell: what listens.
        records: lines of a run's metrics, in order.
    """
    return [
        line
        for record in records
        if f"{TRAIN}loss" in record
        for line in bell.hear(record["step"], training_metrics(record))
    ]


def training_metrics(record: Mapping[str, Any]) -> dict[str, float]:
    """Returns the metrics of training in a line, by the names under which alarms know them."""
    return {
        name.removeprefix(TRAIN): float(value)
        for name, value in record.items()
        if name.startswith(TRAIN) and isinstance(value, int | float)
    }


def bell_of(alarms: Iterable[Alarm], total_steps: int) -> AlarmBell:
    """Returns what watches a run of a method with these alarms."""
    return AlarmBell(
        [*COMMON_ALARMS, *alarms],
        quiet_steps=int(QUIET_PART * total_steps),
        late_step=total_steps // 2,
        declines=DECLINES,
    )


def ended_below(first: Mapping[str, float], last: Mapping[str, float]) -> list[str]:
    """Returns the scores that are below those of the network before training."""
    return [name for name, value in last.items() if name in first and value < first[name]]


def better_start(*, has_init: bool) -> str:
    """Returns what to change if scores end below those before training."""
    start = "" if has_init else ", or start from released weights (init=WEIGHTS)"
    return f"try another optimizer.lr, weaker color jitter, or more epochs{start}"
