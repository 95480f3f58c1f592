"""Results side by side: paired tests against independent formulas, and what is never compared."""

from math import comb
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.differences import difference, differences
from ssl_zoo.evaluation.outcomes import Outcomes
from ssl_zoo.evaluation.result import Result
from ssl_zoo.evaluators.statistics import mcnemar, paired_interval
from ssl_zoo.report.tables import difference_line
from tests.evaluation.results import small_result

Hits = np.ndarray[Any, Any]


def hits(rate: float, *, n: int = 400, seed: int = 0) -> Hits:
    return np.random.default_rng(seed).random(n) < rate


def result(name: str, found: Hits, **changes: Any) -> Result:
    scores = {"top1@k=20": 100 * float(found.mean())}
    packed = {"top1@k=20": Outcomes.of(found)}
    protocol = {"evaluator": "knn", "temperature": 0.07}
    return small_result(
        name, **{"scores": scores, "outcomes": packed, "protocol": protocol, **changes}
    )


@pytest.mark.parametrize(("ours", "theirs"), [(0, 0), (5, 0), (9, 3), (30, 34), (200, 120)])
def test_mcnemar_is_the_exact_binomial_test(ours: int, theirs: int) -> None:
    n = ours + theirs
    tail = sum(comb(n, k) for k in range(min(ours, theirs) + 1)) / 2**n
    assert mcnemar(ours, theirs) == pytest.approx(min(1, 2 * tail))
    if n:
        assert mcnemar(ours, theirs) == pytest.approx(binomtest(ours, n).pvalue)


def test_a_paired_interval_does_not_see_what_is_hard_for_both() -> None:
    easy = hits(0.5, n=2000)
    better = easy | hits(0.02, n=2000, seed=1)
    low, high = paired_interval(better, easy, seed=0)
    spread = (better.astype(float) - easy).std() / 2000**0.5
    middle = float(better.mean() - easy.mean())
    assert low == pytest.approx(middle - 1.96 * spread, abs=0.15 * spread + 1e-3)
    assert high == pytest.approx(middle + 1.96 * spread, abs=0.15 * spread + 1e-3)
    assert high - low < 0.5 * 2 * 1.96 * (2 * 0.25 / 2000) ** 0.5  # far below that of two samples


def test_pairs_of_different_number_are_an_error() -> None:
    with pytest.raises(ValueError, match="3 and 2 values"):
        paired_interval([1, 0, 1], [1, 0], seed=0)


def test_a_clear_difference_is_reported() -> None:
    worse = hits(0.5)
    better = worse | hits(0.3, seed=1)
    found = difference(result("a", better), result("b", worse))
    assert found.distinguishable
    assert found.only_ours == int((better & ~worse).sum())
    assert found.only_theirs == 0
    assert found.difference == pytest.approx(100 * (better.mean() - worse.mean()))
    assert found.p == pytest.approx(2 * 0.5**found.only_ours)


def test_not_distinguishable_is_an_answer() -> None:
    found = differences([result("a", hits(0.5)), result("b", hits(0.5, seed=3))])[0]
    assert not found.distinguishable
    assert difference_line(found).endswith(": not distinguishable")
    assert found.interval[0] < 0 < found.interval[1]


def test_equal_checkpoints_are_not_distinguishable() -> None:
    found = difference(result("a", hits(0.5)), result("b", hits(0.5)))
    assert (found.difference, found.p, found.distinguishable) == (0, 1, False)
    assert found.interval == (0, 0)


def test_scores_without_hits_are_tested_by_their_interval() -> None:
    one = np.random.default_rng(0).random(300).astype(np.float32)
    found = difference(result("a", one + np.float32(0.2)), result("b", one[::-1].copy()))
    assert found.p is None
    assert found.distinguishable


def test_the_best_is_tested_against_each_other() -> None:
    three = [result(name, hits(rate)) for name, rate in (("a", 0.3), ("b", 0.8), ("c", 0.5))]
    assert [(one.ours, one.theirs) for one in differences(three)] == [("b", "c"), ("b", "a")]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"protocol_digest": "q", "protocol": {"temperature": 0.1}},
            r"different protocols \(.*temperature: 0.1 and 0.07\)",
        ),
        ({"protocol_digest": "q", "crop": 64}, r"different protocols \(.*crop: 64 and 32\)"),
        ({"test": "z"}, "different test data"),
        ({"outcomes": {}}, "no per-image results for 'knn/top1"),
        ({"outcomes": {"top1@k=20": Outcomes.of(hits(0.5, n=399))}}, "400 and 399|399 and"),
        ({"evaluators": {}}, "has no score 'knn/top1@k=20'"),
        (
            {"protocol_digest": "q", "protocol": {"name": "x"}, "scores": {}},
            r"different protocols \(",
        ),
    ],
)
def test_what_cannot_be_compared_says_why(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        differences([result("a", hits(0.5)), result("b", hits(0.5, seed=1), **changes)])
