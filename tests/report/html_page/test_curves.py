"""Curves of training and their alarms."""

import math
from pathlib import Path
from typing import Any

from ssl_zoo.report.html_page.curves import MOST_POINTS, alarms, charts
from ssl_zoo.report.html_page.sources import ShownRun, different_data
from ssl_zoo.runs.folder import RunFolder
from tests.small import SHORT, fast_config


def shown(
    folder: Path, *records: dict[str, Any], name: str = "a", method: str = "simclr"
) -> ShownRun:
    config = fast_config(method, *SHORT)
    lines = [{"seconds": 1.0, **record} for record in records]
    return ShownRun(name, RunFolder(folder), config.model_dump(mode="json"), config, lines)


def test_a_value_that_is_not_finite_is_a_gap(tmp_path: Path) -> None:
    run = shown(
        tmp_path,
        {"step": 1, "train/loss": 2.0},
        {"step": 2, "train/loss": math.nan},
        {"step": 3, "train/loss": 1.0},
    )
    (chart,) = charts([run], [], {"a": 0})
    assert chart.traces[0]["y"] == [2.0, None, 1.0]


def test_a_long_curve_is_thinned_and_keeps_its_ends(tmp_path: Path) -> None:
    run = shown(tmp_path, *({"step": step, "train/loss": float(step)} for step in range(5001)))
    (chart,) = charts([run], [], {"a": 0})
    steps = chart.traces[0]["steps"]
    assert len(steps) <= MOST_POINTS + 1
    assert (steps[0], steps[-1]) == (0, 5000)


def test_an_alarm_is_marked_where_training_rang_it(tmp_path: Path) -> None:
    run = shown(
        tmp_path,
        *(
            {"step": step, "train/effective_rank": 1.0 if step > 50 else 9.0}
            for step in range(1, 101)
        ),
    )
    heard = alarms([run])
    assert {one.ring.metric for one in heard} == {"effective_rank"}
    (chart,) = charts([run], heard, {"a": 0})
    marks = [trace for trace in chart.traces if trace["kind"] == "alarm"]
    assert marks[0]["steps"] == [one.ring.step for one in heard]
    assert min(marks[0]["steps"]) > 50
    assert "lower optimizer.lr" in marks[0]["text"][0]


def test_a_metric_with_an_alarm_is_shown_at_once(tmp_path: Path) -> None:
    lines = [
        {"step": step, "train/loss": 1.0, "train/queue_age_share": 0.9} for step in range(1, 99)
    ]
    run = shown(tmp_path, *lines)
    first = [one.name for one in charts([run], alarms([run]), {"a": 0}) if one.is_first]
    assert first == ["train/loss", "train/queue_age_share"]
    quiet = [one.name for one in charts([run], [], {"a": 0}) if one.is_first]
    assert quiet == ["train/loss"]


def test_losses_of_different_methods_come_with_a_caution(tmp_path: Path) -> None:
    record = {"step": 1, "train/loss": 2.0}
    runs = [shown(tmp_path, record), shown(tmp_path, record, name="b", method="swav")]
    assert "different quantities" in charts(runs, [], {"a": 0, "b": 1})[0].note
    assert charts(runs[:1], [], {"a": 0})[0].note == ""


def test_runs_of_different_data_are_named(tmp_path: Path) -> None:
    one, other = shown(tmp_path), shown(tmp_path, name="b")
    assert different_data([one, other]) == []
    other.settings["data"]["name"] = "cifar10"
    assert "b: cifar10" in different_data([one, other])[0]
