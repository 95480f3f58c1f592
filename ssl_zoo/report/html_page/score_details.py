"""Details of scores: kNN over k, accuracy by class, and all scores side by side."""

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ssl_zoo.evaluation.result import Result
from ssl_zoo.plain_text import printable
from ssl_zoo.report.html_page.sources import Sources
from ssl_zoo.report.score_table import table

MOST_CLASSES = 100
"""Classes in a table at most; of more, the hardest are shown."""
_OVER_K = re.compile(r"^(?P<score>[^@]+)@k=(?P<k>\d+)(?P<rest>.*)$")


@dataclass(frozen=True)
class ClassTable:
    """A score by class of several checkpoints.

    Attributes:
        title: evaluator and score.
        names: the checkpoints.
        rows: number of the class, and its score for each checkpoint; None if it has none.
        class_names: names of classes by number, as far as known.
        note: what is not shown; may be empty.
    """

    title: str
    names: tuple[str, ...]
    rows: tuple[tuple[str, tuple[float | None, ...]], ...]
    class_names: dict[str, str]
    note: str


@dataclass(frozen=True)
class AllScores:
    """All scores, one row for each score, protocol and data.

    Attributes:
        names: checkpoints and contenders.
        rows: the score, its protocol, and its value for each name.
        notes: what to be careful about.
    """

    names: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[float | None, ...]], ...]
    notes: tuple[str, ...]


def over_k(sources: Sources, colours: dict[str, int]) -> list[dict[str, Any]]:
    """Returns the charts of scores that were measured for several k, as JSON for the page's script."""
    found: dict[str, dict[str, dict[int, tuple[float, Any]]]] = {}
    for name, score, value, interval in _scores(sources):
        evaluator, _, own = score.partition("/")
        match = _OVER_K.match(own)
        if match and not own.endswith("_std"):
            title = f"{evaluator}/{match['score']}{match['rest']}"
            curve = found.setdefault(title, {}).setdefault(name, {})
            curve[int(match["k"])] = (value, interval)
    charts = []
    for title, curves in found.items():
        traces = [
            _over_k(name, curve, colours[name]) for name, curve in curves.items() if len(curve) > 1
        ]
        if traces:
            charts.append({"title": title, "traces": traces})
    return charts


def _scores(sources: Sources) -> list[tuple[str, str, float, Any]]:
    """Returns name, score, value and interval of all scores."""
    found: list[tuple[str, str, float, Any]] = []
    for comparison in sources.comparisons:
        for row in comparison.rows:
            for score, one in row.scores.items():
                found.append((printable(row.name), score, one.mean, one.interval))
    for name, result in sources.results:
        for label, measured in result.evaluators.items():
            for score, value in measured.scores.items():
                found.append((name, f"{label}/{score}", value, measured.intervals.get(score)))
    return found


def _over_k(name: str, curve: dict[int, tuple[float, Any]], colour: int) -> dict[str, Any]:
    places = sorted(curve)
    low_high = [curve[k][1] for k in places]
    return {
        "series": colour,
        "name": html.escape(name),
        "x": places,
        "y": [round(curve[k][0], 4) for k in places],
        "up": [
            round(ends[1] - curve[k][0], 4) if ends else 0
            for k, ends in zip(places, low_high, strict=True)
        ],
        "down": [
            round(curve[k][0] - ends[0], 4) if ends else 0
            for k, ends in zip(places, low_high, strict=True)
        ],
    }


def class_tables(sources: Sources, class_names: Mapping[str, Sequence[str]]) -> list[ClassTable]:
    """Returns the accuracy or average precision by class, for each evaluator and data that has one.

    Args:
        sources: the results.
        class_names: names of the classes of the data that a run was trained on, by name of the run.
    """
    groups: dict[tuple[str, str, str], list[tuple[str, dict[str, Any]]]] = {}
    for name, result in (*sources.results, *sources.details):
        for label, measured in result.evaluators.items():
            for key in ("accuracy_by_class", "average_precision_by_class"):
                values = _by_class(measured.details.get(key))
                if values:
                    place = (label, key, result.data.fingerprint.test)
                    groups.setdefault(place, []).append((name, values))
    found = []
    for (label, key, _), members in groups.items():
        named = next((class_names[name] for name, _ in members if name in class_names), ())
        found.append(_class_table(label, key, members, named))
    return found


def _by_class(found: Any) -> dict[str, Any]:
    """Returns the values by class of details, which may be a list or a mapping."""
    if isinstance(found, list):
        found = {str(place): value for place, value in enumerate(found)}
    return found if isinstance(found, dict) else {}


def _class_table(
    label: str,
    key: str,
    members: Sequence[tuple[str, dict[str, Any]]],
    class_names: Sequence[str],
) -> ClassTable:
    classes = list(dict.fromkeys(one for _, values in members for one in values))
    rows = [(one, tuple(_value(values.get(one)) for _, values in members)) for one in classes]
    note = ""
    if len(rows) > MOST_CLASSES:
        note = (
            f"The {MOST_CLASSES} hardest of {len(rows):,} classes for the first column are shown."
        )
        rows = sorted(rows, key=lambda row: row[1][0] if row[1][0] is not None else 0.0)
        rows = rows[:MOST_CLASSES]
    known = {str(place): printable(name) for place, name in enumerate(class_names)}
    title = f"{label}: {key.replace('_', ' ')}"
    return ClassTable(title, tuple(name for name, _ in members), tuple(rows), known, note)


def _value(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def all_scores(sources: Sources) -> AllScores | None:
    """Returns all scores side by side; None if there are none."""
    named: list[Result] = [
        result.model_copy(update={"checkpoint": name}) for name, result in sources.results
    ]
    if not named and not sources.comparisons:
        return None
    found = table(*sources.comparisons, *named)
    rows = [(row.score, row.protocol, row.values) for row in found.rows()]
    names = tuple(map(printable, found.names))
    return AllScores(names, tuple(rows), tuple(map(printable, found.notes)))
