"""Curves of training: metrics of all runs side by side, with the alarms that rang."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ssl_zoo.doctor.of_run import total_steps
from ssl_zoo.method import METHODS
from ssl_zoo.report.html_page.sources import ShownRun
from ssl_zoo.report.tables import HEADINGS
from ssl_zoo.training.alarms import Ring, bell_of

FIRST = ("train/loss", "knn/", "train/effective_rank", "train/lr", "train/feature_std")
"""Metrics that are shown first; of an evaluator, its first score that has no k or a k of 20."""
MOST_POINTS = 1000
"""Points of a curve at most; of longer ones, every n-th is shown."""
_TRAIN = "train/"
_TITLES = {
    **HEADINGS,
    "train/loss": "Loss",
    "train/effective_rank": "Effective rank of features",
    "train/lr": "Learning rate",
    "train/feature_std": "Spread of features",
    "train/images_per_second": "Images per second",
}


@dataclass(frozen=True)
class Chart:
    """A chart of one metric.

    Attributes:
        name: the metric.
        title: its name for readers.
        note: what to know before reading it; may be empty.
        is_first: whether it is shown at once, and not among the further ones.
        traces: curves and alarms, as JSON for the page's script.
    """

    name: str
    title: str
    note: str
    is_first: bool
    traces: list[dict[str, Any]]


@dataclass(frozen=True)
class HeardAlarm:
    """An alarm of a run.

    Attributes:
        run: name of the run.
        ring: when it began, and what it says.
    """

    run: str
    ring: Ring


def charts(
    runs: Sequence[ShownRun], heard: Sequence[HeardAlarm], colours: dict[str, int]
) -> list[Chart]:
    """Returns a chart of each metric that was logged, the important ones first.

    Args:
        runs: the runs.
        heard: their alarms.
        colours: number of the colour of each name.
    """
    logged = list(
        dict.fromkeys(
            name
            for run in runs
            for record in run.records
            for name, value in record.items()
            if "/" in name and _number(value) is not None
        )
    )
    first = _first(logged)
    methods = {run.settings.get("method", {}).get("name") for run in runs if run.records}
    rang = dict.fromkeys(f"{_TRAIN}{one.ring.metric}" for one in heard)
    first += [name for name in rang if name in logged and name not in first]
    found = []
    for name in [*first, *(name for name in logged if name not in first)]:
        traces = [_curve(run, name, colours[run.name]) for run in runs]
        traces = [trace for trace in traces if trace["y"]]
        traces += [
            _marks(run, rings, colours[run.name])
            for run in runs
            if (rings := _rings(heard, run, name))
        ]
        note = ""
        if name == "train/loss" and len(methods) > 1:
            note = (
                "Losses of different methods are different quantities: compare their course only."
            )
        title = _TITLES.get(name, name.removeprefix(_TRAIN).replace("_", " "))
        found.append(Chart(name, title, note, name in first, traces))
    return found


def alarms(runs: Sequence[ShownRun]) -> list[HeardAlarm]:
    """Lets the alarms of training hear the metrics of each run again, and returns those that rang."""
    found = []
    for run in runs:
        if run.config is None:
            continue
        total = total_steps(run.folder, run.records)
        bell = bell_of(METHODS[run.config.method.name].alarms, total)
        for record in run.records:
            values = {name.removeprefix(_TRAIN): _number(value) for name, value in record.items()}
            known = {name: value for name, value in values.items() if value is not None}
            rang = bell.hear(record["step"], known)
            new = [ring for ring in bell.ringing if str(ring) in rang]
            found += [HeardAlarm(run.name, ring) for ring in new]
    return found


def _rings(heard: Sequence[HeardAlarm], run: ShownRun, metric: str) -> list[Ring]:
    """Returns the alarms of a run that a metric raised."""
    own = [one.ring for one in heard if one.run == run.name]
    return [ring for ring in own if f"{_TRAIN}{ring.metric}" == metric]


def _first(logged: Sequence[str]) -> list[str]:
    """Returns the metrics to show at once."""
    found = []
    for name in FIRST:
        matching = [one for one in logged if one == name or one.startswith(f"{name.strip('/')}/")]
        preferred = [one for one in matching if one.endswith("top1@k=20")] or matching
        found += preferred[:1]
    evaluators = dict.fromkeys(name.partition("/")[0] for name in logged)
    for evaluator in evaluators:
        if evaluator not in ("train", "knn"):
            found.append(next(name for name in logged if name.startswith(f"{evaluator}/")))
    return found


def _curve(run: ShownRun, metric: str, colour: int) -> dict[str, Any]:
    points = [record for record in run.records if metric in record]
    if len(points) > MOST_POINTS:
        stride = math.ceil(len(points) / MOST_POINTS)
        points = [*points[:-1][::stride], points[-1]]
    values = [_number(record[metric]) for record in points]
    return {
        "series": colour,
        "name": html.escape(run.name),
        "kind": "line",
        **_places(run, [record["step"] for record in points]),
        "y": [None if value is None else float(f"{value:.6g}") for value in values],
    }


def _marks(run: ShownRun, rings: Sequence[Ring], colour: int) -> dict[str, Any]:
    return {
        "series": colour,
        "name": html.escape(run.name),
        "kind": "alarm",
        **_places(run, [ring.step for ring in rings]),
        "y": [_number(ring.value) for ring in rings],
        "text": [html.escape(str(ring)) for ring in rings],
    }


def _places(run: ShownRun, steps: Sequence[int]) -> dict[str, list[Any]]:
    """Returns where steps are on each of the axes."""
    total = total_steps(run.folder, run.records)
    epochs = run.settings.get("epochs")
    known = run.config is not None and bool(total) and isinstance(epochs, int | float)
    seconds = {record["step"]: record["seconds"] for record in run.records}
    return {
        "steps": list(steps),
        "epochs": [round(step * epochs / total, 4) for step in steps] if known and epochs else [],
        "minutes": [round(seconds[step] / 60, 4) for step in steps],
    }


def _number(value: Any) -> float | None:
    """Returns a finite number; None for anything else, which is a gap in a curve."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None
