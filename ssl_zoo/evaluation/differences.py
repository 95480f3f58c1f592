"""Tests between results: which scores can be compared, and whether they differ."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ssl_zoo.config import closest
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.records import Record
from ssl_zoo.evaluation.result import EvaluatorResult, Result
from ssl_zoo.evaluators.statistics import mcnemar, paired_interval

SIGNIFICANCE = 0.05
"""Differences with a larger p-value are not distinguishable."""


class Difference(Record):
    """The result of testing two checkpoints on one score."""

    ours: str
    """The first checkpoint."""
    theirs: str
    """The second checkpoint."""
    score: str
    """The tested score, such as `knn/top1@k=20`."""
    n: int
    """Number of test images."""
    difference: float
    """Score of the first minus that of the second, in the unit of the score."""
    interval: tuple[float, float]
    """95 % interval of the difference, from a paired bootstrap over images, or over seeds and images."""
    p: float | None = None
    """p-value: of McNemar's exact test for a fraction of correct images, else of a t test if there is one,
    which for several seeds is over seeds and images."""
    p_corrected: float | None = None
    """p-value corrected by Holm's method for all pairs of a comparison; None for a single test."""
    n_seeds: int = 1
    """Number of training seeds that the test accounts for; 1 if for none."""
    only_ours: int | None = None
    """Images that only the first gets right; None without McNemar's test."""
    only_theirs: int | None = None
    """Images that only the second gets right; None without McNemar's test."""
    distinguishable: bool
    """Whether the two differ significantly."""


def scores_of(results: Sequence[Result], score: str | None) -> tuple[str, str]:
    """Returns the evaluator and the name of a score that all results have under the same protocol.

    Args:
        results: one or more.
        score: `knn/top1@k=20`; the headline of the first evaluator if None.

    Raises:
        UserError: a result lacks the score, or protocols, data or labels differ; the message names them.
    """
    first = results[0].evaluators
    if score is None:
        evaluator = next(iter(first))
        name = first[evaluator].headline
    else:
        evaluator, _, name = score.partition("/")
    for result in results:
        found = result.evaluators.get(evaluator)
        if found is not None and evaluator in first:
            _same(results[0], result, evaluator)
        if found is None or name not in found.scores:
            known = [f"{e}/{n}" for e, one in result.evaluators.items() for n in one.scores]
            wanted = score or f"{evaluator}/{name}"
            raise UserError(
                f"'{result.checkpoint}' has no score '{wanted}'.{closest(wanted, known)} "
                f"It has: {', '.join(known)}"
            )
    return evaluator, name


def _same(ours: Result, theirs: Result, evaluator: str) -> None:
    one, other = ours.evaluators[evaluator], theirs.evaluators[evaluator]
    pair = f"'{theirs.checkpoint}' and '{ours.checkpoint}'"
    if one.protocol_digest != other.protocol_digest:
        changed = ", ".join(_changes(one, other)) or "the view or layer"
        raise UserError(
            f"{pair} were scored by {evaluator} under different protocols ({changed}); their "
            "scores are not comparable: score both in the same way"
        )
    for split in ("train", "test"):
        if getattr(theirs.data.fingerprint, split) != getattr(ours.data.fingerprint, split):
            raise UserError(
                f"{pair} were scored on different {split} data; their scores are not "
                "comparable: score both on the same images"
            )


def _changes(one: EvaluatorResult, other: EvaluatorResult) -> list[str]:
    ours, theirs = _conditions(one), _conditions(other)
    keys = [key for key in {**ours, **theirs} if key != "digest"]
    return [
        f"{key}: {theirs.get(key)} and {ours.get(key)}"
        for key in keys
        if ours.get(key) != theirs.get(key)
    ]


def _conditions(found: EvaluatorResult) -> dict[str, Any]:
    """Returns protocol and view as one mapping."""
    return {**found.protocol, **(found.view.model_dump() if found.view else {})}


def difference(
    ours: Result, theirs: Result, *, score: str | None = None, seed: int = 0
) -> Difference:
    """Tests whether the scores of two checkpoints on the same test images differ.

    Correct and wrong predictions are compared with McNemar's exact test; other scores differ if the
    paired bootstrap interval excludes 0. Both tests account for the choice of test images, but not for
    the training seed.

    Raises:
        UserError: the score cannot be compared.
    """
    evaluator, name = scores_of([ours, theirs], score)
    pair = []
    for result in (ours, theirs):
        packed = result.evaluators[evaluator].outcomes.get(name)
        if packed is None:
            raise UserError(
                f"'{result.checkpoint}' has no per-image results for '{evaluator}/{name}'; "
                "a paired test needs a score that is a mean over images, such as knn's"
            )
        pair.append(packed.array())
    one, other = pair
    if len(one) != len(other):
        raise UserError(
            f"{len(one)} and {len(other)} test images were scored, as some could not be decoded; score "
            "both on the same images"
        )
    low, high = paired_interval(one, other, seed=seed)
    found: dict[str, Any] = {"distinguishable": not low <= 0 <= high}
    if one.dtype == np.bool_ and other.dtype == np.bool_:
        only_ours, only_theirs = int((one & ~other).sum()), int((other & ~one).sum())
        p = mcnemar(only_ours, only_theirs)
        found = {"p": p, "only_ours": only_ours, "only_theirs": only_theirs}
        found |= {"distinguishable": p < SIGNIFICANCE}
    return Difference(
        ours=ours.checkpoint,
        theirs=theirs.checkpoint,
        score=f"{evaluator}/{name}",
        n=len(one),
        difference=100 * float(one.mean(dtype=np.float64) - other.mean(dtype=np.float64)),
        interval=(100 * low, 100 * high),
        **found,
    )


def differences(
    results: Sequence[Result], *, score: str | None = None, seed: int = 0
) -> list[Difference]:
    """Tests the best of several results against each of the others; see `difference`.

    Raises:
        UserError: the score cannot be compared.
    """
    evaluator, name = scores_of(results, score)
    best, *others = sorted(
        results, key=lambda result: result.evaluators[evaluator].scores[name], reverse=True
    )
    return [difference(best, other, score=f"{evaluator}/{name}", seed=seed) for other in others]


def try_differences(results: Sequence[Result]) -> tuple[list[Difference], str]:
    """Returns the differences, or the reason why results cannot be tested."""
    if len(results) < 2:
        return [], ""
    try:
        return differences(results), ""
    except UserError as error:
        return [], str(error)
