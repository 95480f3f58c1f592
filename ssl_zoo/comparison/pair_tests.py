"""Verdicts of a comparison: tests of all pairs of contenders, and how sure their ranks are."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ssl_zoo.comparison.ranking import Row
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.differences import SIGNIFICANCE, Difference, difference
from ssl_zoo.evaluation.result import Result
from ssl_zoo.evaluators.statistics import crossed_test, holm, rank_intervals

_SEED = 0


def all_pairs_tested(
    names: Sequence[str], results: Mapping[str, Sequence[Result]], score: str
) -> tuple[Difference, ...]:
    """Returns the tests of all pairs of contenders, with p-values corrected for their number.

    One seed: McNemar's exact test of right and wrong images, or else a paired t test over images.
    Several: a test over seeds and images. Both are corrected by Holm's method, and two contenders
    are distinguishable if the corrected p-value is below 0.05.

    Args:
        names: contenders, best first.
        results: the results of each, one for each seed.
        score: the score to test, such as `knn/top1@k=20`.

    Returns:
        One test for each pair, in the order of the names; none if the score has no outcomes of images.
    """
    outcomes = _outcomes(names, results, score)
    if outcomes is None:
        return ()
    found = [_test(one, other, results, outcomes, score) for one, other in combinations(names, 2)]
    corrected = holm([one.p if one.p is not None else 1.0 for one in found])
    return tuple(
        one.model_copy(update={"p_corrected": p, "distinguishable": p < SIGNIFICANCE})
        for one, p in zip(found, corrected, strict=True)
    )


def with_ranks(
    rows: Sequence[Row], results: Mapping[str, Sequence[Result]], score: str
) -> list[Row]:
    """Returns the rows with their ranks and the intervals of these over test images and seeds."""
    outcomes = _outcomes([row.name for row in rows], results, score)
    means = [row.scores[score].mean for row in rows]
    intervals: list[tuple[int, int] | None] = [None] * len(rows)
    if outcomes is not None and len(rows) > 1:
        intervals = [*rank_intervals([outcomes[row.name] for row in rows], seed=_SEED)]
    return [
        row.model_copy(
            update={"rank": 1 + sum(other > mean for other in means), "rank_interval": interval}
        )
        for row, mean, interval in zip(rows, means, intervals, strict=True)
    ]


def _outcomes(
    names: Sequence[str], results: Mapping[str, Sequence[Result]], score: str
) -> dict[str, NDArray[np.float64]] | None:
    """Returns the value of each image for each seed `(S, N)`; None if any is missing."""
    evaluator, _, name = score.partition("/")
    found = {}
    for one in names:
        packed = [result.evaluators[evaluator].outcomes.get(name) for result in results[one]]
        arrays = [np.asarray(each.array(), np.float64) for each in packed if each is not None]
        if not arrays or len(arrays) < len(packed) or len({len(each) for each in arrays}) > 1:
            return None
        found[one] = np.stack(arrays)
    sizes = {each.shape[1] for each in found.values()}
    return found if len(sizes) == 1 and min(sizes) > 1 else None


def _test(
    one: str,
    other: str,
    results: Mapping[str, Sequence[Result]],
    outcomes: Mapping[str, NDArray[np.float64]],
    score: str,
) -> Difference:
    gap, interval, p = crossed_test(outcomes[one], outcomes[other])
    ours, theirs = results[one], results[other]
    if len(ours) == len(theirs) == 1:
        try:
            found = difference(ours[0], theirs[0], score=score)
        except UserError as error:  # of other data or another protocol, which was checked before
            raise AssertionError(str(error)) from None
        p = found.p if found.p is not None else p
        return found.model_copy(update={"ours": one, "theirs": other, "p": p})
    return Difference(
        ours=one,
        theirs=other,
        score=score,
        n=outcomes[one].shape[1],
        difference=100 * gap,
        interval=(100 * interval[0], 100 * interval[1]),
        p=p,
        n_seeds=max(len(ours), len(theirs)),
        distinguishable=p < SIGNIFICANCE,
    )
