"""Verdicts of all pairs."""

import numpy as np
import pytest

from ssl_zoo.comparison.pair_tests import all_pairs_tested
from ssl_zoo.evaluation.outcomes import Outcomes
from ssl_zoo.evaluation.result import Result
from ssl_zoo.evaluators.statistics import mcnemar
from tests.evaluation.results import small_result

SCORE = "knn/top1@k=20"


def scored(name: str, values: np.ndarray) -> Result:
    return small_result(
        name,
        scores={"top1@k=20": 100 * float(values.mean())},
        outcomes={"top1@k=20": Outcomes.of(values).model_dump()},
    )


def hits(n_right: int, n: int = 100) -> np.ndarray:
    return np.arange(n) < n_right


def test_one_seed_is_tested_by_mcnemar_and_corrected_for_the_pairs() -> None:
    results = {name: [scored(name, hits(n))] for name, n in (("a", 60), ("b", 53), ("c", 30))}
    found = all_pairs_tested([*results], results, SCORE)
    assert [(one.ours, one.theirs) for one in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [one.p for one in found] == [mcnemar(7, 0), mcnemar(30, 0), mcnemar(23, 0)]
    corrected = [one.p_corrected for one in found]
    assert corrected == pytest.approx([mcnemar(7, 0), 3 * mcnemar(30, 0), 2 * mcnemar(23, 0)])


def test_a_pair_that_is_significant_alone_may_not_be_among_many() -> None:
    results = {name: [scored(name, hits(n))] for name, n in (("a", 60), ("b", 54), ("c", 54))}
    found = all_pairs_tested([*results], results, SCORE)
    assert found[0].p == pytest.approx(0.03125)
    assert found[0].p_corrected == pytest.approx(3 * 0.03125)
    assert not found[0].distinguishable


def test_a_lucky_seed_is_not_a_better_method() -> None:
    """Each image is decided, but seeds of one method differ by more than the methods do."""
    results = {
        "a": [scored("a", hits(n)) for n in (80, 50)],
        "b": [scored("b", hits(n)) for n in (60, 55)],
    }
    (found,) = all_pairs_tested(["a", "b"], results, SCORE)
    assert found.difference == pytest.approx(7.5)
    assert not found.distinguishable
    assert found.n_seeds == 2
    assert found.interval[0] < 0 < found.interval[1]


def test_numbers_of_images_are_tested_as_well() -> None:
    generator = np.random.default_rng(0)
    values = generator.uniform(size=50).astype(np.float32)
    results = {"a": [scored("a", values)], "b": [scored("b", values * np.float32(0.5))]}
    (found,) = all_pairs_tested(["a", "b"], results, SCORE)
    assert found.only_ours is None
    assert found.distinguishable


def test_scores_without_outcomes_are_not_tested() -> None:
    results = {"a": [small_result("a")], "b": [scored("b", hits(3))]}
    assert all_pairs_tested(["a", "b"], results, SCORE) == ()
