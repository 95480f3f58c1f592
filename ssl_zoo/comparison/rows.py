"""The rows of a comparison: scores over seeds, costs, and tests of the best contender."""

import statistics
from dataclasses import dataclass

from ssl_zoo.comparison.contenders import Contender
from ssl_zoo.comparison.ranking import Row, ScoreSummary
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.differences import Difference, difference
from ssl_zoo.evaluation.result import Result
from ssl_zoo.evaluators.base import EVALUATORS
from ssl_zoo.method import METHODS
from ssl_zoo.runs.config import RunConfig


@dataclass(frozen=True)
class Scored:
    """A run with its scores and its training cost."""

    result: Result
    training_seconds: float


def row_of(name: str, scored: list[Scored], config: RunConfig) -> Row:
    """Returns a row of the leaderboard: mean and spread of each score over seeds."""
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
        selected_by=first.selected_by,
    )


def _epochs(result: Result, config: RunConfig) -> int:
    """Returns the epochs of a run, fewer than in its settings if it ended early."""
    return config.epochs if config.stop_early is None else round(result.epoch or 0)


def tested(
    rows: list[Row], compared: list[Contender], scored: list[list[Scored]], headline: str
) -> tuple[Difference, ...]:
    """Returns the tests of the best contender against the others, by the names in the comparison."""
    results = {one.name: found[0].result for one, found in zip(compared, scored, strict=True)}
    best = rows[0].name
    found = []
    for row in rows[1:]:
        try:
            one = difference(results[best], results[row.name], score=headline)
        except UserError:  # the score has no outcomes of single images
            continue
        found.append(one.model_copy(update={"ours": best, "theirs": row.name}))
    return tuple(found)


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
    if not result.step or not result.epoch:
        return 0
    steps = _epochs(result, config) * round(result.step / result.epoch)
    return steps * config.global_batch_size * sum(config.view_counts.values())


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
