"""Progress of a run, read from its folder while another process may write there."""

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_zoo.jobs.causes import read_end
from ssl_zoo.runs import metrics
from ssl_zoo.runs.history import Event

RECORDS_FOR_RATE = 50
"""Number of newest metric lines used to estimate the pace."""


@dataclass(frozen=True)
class JobProgress:
    """Progress of a run.

    Attributes:
        steps_per_second: pace over the newest metrics, evaluations included; None with fewer than
            two.
    """

    step: int | None
    total_steps: int | None
    checkpoint_step: int | None
    checkpoint_age_s: float | None
    images_per_second: float | None
    steps_per_second: float | None

    @property
    def eta_s(self) -> float | None:
        """Seconds to the end at the current pace."""
        if self.step is None or self.total_steps is None or not self.steps_per_second:
            return None
        return max(0, self.total_steps - self.step) / self.steps_per_second


def progress(folder: Path, events: list[Event]) -> JobProgress:
    """Reads the progress of a run.

    Args:
        events: the run's history.
    """
    records = _newest_metrics(folder / "metrics.jsonl")
    saved, age = newest_checkpoint_age(folder)
    total = next((event.total_steps for event in reversed(events) if event.total_steps), None)
    steps = [
        step for step in (saved, records[-1]["step"] if records else None) if step is not None
    ]
    if (folder / "complete.json").is_file():
        total = total or max(steps, default=None)
    rates = [_number(record.get("train/images_per_second")) for record in records]
    return JobProgress(
        step=max(steps, default=None),
        total_steps=total,
        checkpoint_step=saved,
        checkpoint_age_s=age,
        images_per_second=next((rate for rate in reversed(rates) if rate is not None), None),
        steps_per_second=_pace(records),
    )


def newest_checkpoint_age(folder: Path) -> tuple[int | None, float | None]:
    """Returns step and age in seconds of the newest checkpoint, without importing torch."""
    try:
        names = [path.name for path in (folder / "checkpoints").iterdir()]
    except OSError:
        return None, None
    found = (re.fullmatch(r"step-([0-9]{8,})", name) for name in names)
    steps = {int(match[1]): match[0] for match in found if match}
    for step in sorted(steps, reverse=True):
        manifest = folder / "checkpoints" / steps[step] / "manifest.json"
        try:
            return step, max(0.0, time.time() - manifest.stat().st_mtime)
        except OSError:  # is being removed
            continue
    return None, None


def _newest_metrics(file: Path) -> list[dict[str, Any]]:
    records = []
    for line in read_end(file).splitlines()[-RECORDS_FOR_RATE:]:
        record = metrics.parse(line.encode(errors="surrogateescape"))
        if record is not None:
            records.append(record)
    return records


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) else None


def _pace(records: list[dict[str, Any]]) -> float | None:
    if len(records) < 2:
        return None
    steps = records[-1]["step"] - records[0]["step"]
    seconds = records[-1]["seconds"] - records[0]["seconds"]
    return float(steps / seconds) if steps > 0 and seconds > 0 else None
