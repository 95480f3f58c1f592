"""How far a run has come, read from its folder while something else may write there."""

import json
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_zoo.jobs.causes import read_end
from ssl_zoo.runs.history import Event

RECORDS_FOR_RATE = 50
"""So many of the newest lines of metrics tell how fast a run is."""


@dataclass(frozen=True)
class JobProgress:
    """How far a run has come.

    Attributes:
        steps_per_second: over the newest metrics, evaluations included; None before there are two.
    """

    step: int | None
    total_steps: int | None
    checkpoint_step: int | None
    checkpoint_age_s: float | None
    images_per_second: float | None
    steps_per_second: float | None

    @property
    def eta_s(self) -> float | None:
        """Seconds until the end at the present pace."""
        if self.step is None or self.total_steps is None or not self.steps_per_second:
            return None
        return max(0, self.total_steps - self.step) / self.steps_per_second


def progress(folder: Path, events: list[Event]) -> JobProgress:
    """Reads how far a run has come.

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
    rates = [record.get("train/images_per_second") for record in records]
    return JobProgress(
        step=max(steps, default=None),
        total_steps=total,
        checkpoint_step=saved,
        checkpoint_age_s=age,
        images_per_second=next((rate for rate in reversed(rates) if rate is not None), None),
        steps_per_second=_pace(records),
    )


def newest_checkpoint_age(folder: Path) -> tuple[int | None, float | None]:
    """Returns step and age in seconds of the newest checkpoint; torch is not needed for it."""
    try:
        names = sorted((path.name for path in (folder / "checkpoints").iterdir()), reverse=True)
    except OSError:
        return None, None
    for name in names:
        match = re.fullmatch(r"step-(\d{8,})", name)
        manifest = folder / "checkpoints" / name / "manifest.json"
        try:
            if match:
                return int(match[1]), max(0.0, time.time() - manifest.stat().st_mtime)
        except OSError:  # just being removed
            continue
    return None, None


def _newest_metrics(file: Path) -> list[dict[str, Any]]:
    records = []
    for line in read_end(file).splitlines()[-RECORDS_FOR_RATE:]:
        try:
            record = json.loads(line)
        except ValueError:  # half-written
            continue
        if isinstance(record, dict) and {"step", "seconds"} <= record.keys():
            records.append(record)
    return records


def _pace(records: list[dict[str, Any]]) -> float | None:
    if len(records) < 2:
        return None
    steps = records[-1]["step"] - records[0]["step"]
    seconds = records[-1]["seconds"] - records[0]["seconds"]
    return float(steps / seconds) if steps > 0 and seconds > 0 else None
