"""The rows of a comparison: scores over seeds, and costs."""

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ssl_zoo.comparison.ranking import Row, ScoreSummary
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.result import Result
from ssl_zoo.evaluators.base import EVALUATORS
from ssl_zoo.method import METHODS
from ssl_zoo.planning.rehearsal import Pace
from ssl_zoo.runs.config import RunConfig


@dataclass(frozen=True)
class Scored:
    """A run with its scores and its training cost."""

    result: Result
    training_seconds: float
    host_gb: float | None = None
    device_gb: float | None = None
    run: str = ""
    """Its folder, relative to that of the comparison."""


def peak_of(records: Iterable[Mapping[str, Any]], key: str) -> float | None:
    """Returns the largest value of a metric over the lines of a run; None if it has none."""
    return max((float(record[key]) for record in records if key in record), default=None)


def row_of(name: str, scored: list[Scored], config: RunConfig, pace: Pace | None = None) -> Row:
    """Returns a row of the leaderboard: mean and spread of each score over seeds, and the costs.

    Args:
        name: name of the contender.
        scored: its runs.
        config: settings of the first of them.
        pace: the arithmetic of its steps, if known.
    """
    first = scored[0].result
    trains = METHODS[config.method.name].trains
    return Row(
        name=name,
        scores={
            f"{evaluator}/{score}": _summary([one.result for one in scored], evaluator, score)
            for evaluator, found in first.evaluators.items()
            for score in found.scores
        },
        protocols={key: found.protocol_digest for key, found in first.evaluators.items()},
        parameters=first.backbone.parameters,
        epochs=_epochs(first, config) if trains else 0,
        views_seen=_views_seen(config, first) if trains else 0,
        training_seconds=statistics.fmean(one.training_seconds for one in scored),
        images_seen=_images_seen(config, first) if trains else 0,
        flops=(pace.flops * first.step if pace and first.step else None) or None,
        host_gb=_most(one.host_gb for one in scored),
        device_gb=_most(one.device_gb for one in scored),
        runs=tuple(one.run for one in scored if one.run),
        selected_by=first.selected_by,
    )


def _epochs(result: Result, config: RunConfig) -> int:
    """Returns the epochs of a run, fewer than in its settings if it ended early."""
    if config.stop_early is None and config.steps is None:
        return config.epochs
    return max(1, round(result.epoch or 0))


def _most(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _summary(results: list[Result], evaluator: str, score: str) -> ScoreSummary:
    values = tuple(result.evaluators[evaluator].scores[score] for result in results)
    if len(values) > 1:
        return ScoreSummary(
            mean=statistics.fmean(values), std=statistics.stdev(values), values=values
        )
    interval = results[0].evaluators[evaluator].intervals.get(score)
    return ScoreSummary(mean=values[0], interval=interval, values=values)


def _views_seen(config: RunConfig, result: Result) -> int:
    """Returns the number of views of all sizes processed in training, with images that have no label."""
    return _images_seen(config, result) * sum(config.view_counts.values())


def _images_seen(config: RunConfig, result: Result) -> int:
    """Returns the number of images of all steps; an image counts each time."""
    return (result.step or 0) * config.global_batch_size


def headline_of(result: Result) -> str:
    """Returns the score used for ranking: the headline of the first evaluator that compares methods.

    Without one, it is that of the first evaluator, which is shown but ranks nothing.
    """
    names = [f"{evaluator}/{found.headline}" for evaluator, found in result.evaluators.items()]
    return next((name for name in names if may_rank(name)), names[0])


def may_rank(score: str) -> bool:
    """Returns whether contenders of different methods may be ranked by a score, `EVALUATOR/NAME`."""
    name = score.partition("/")[0].partition(":")[0]
    return EVALUATORS[name].compares_methods


def one_protocol(rows: list[Row]) -> dict[str, str]:
    """Returns the protocol digest of each evaluator, which must be equal for all rows.

    Raises:
        UserError: rows were scored under different protocols.
    """
    for row in rows:
        for evaluator, protocol in row.protocols.items():
            expected = rows[0].protocols[evaluator]
            if protocol != expected:
                raise UserError(
                    f"'{row.name}' was scored by {evaluator} protocol {protocol}, "
                    f"'{rows[0].name}' by {expected}: their scores are not comparable"
                )
    return rows[0].protocols
