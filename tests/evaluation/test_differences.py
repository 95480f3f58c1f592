"""Results side by side: paired tests against independent formulas, and what is never compared."""

import json
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.differences import (
    columns,
    difference,
    differences,
    pack,
    read_result,
    unpack,
)
from ssl_zoo.evaluators.statistics import mcnemar, paired_interval
from ssl_zoo.report.tables import difference_line

Outcomes = np.ndarray[Any, Any]


def hits(rate: float, *, n: int = 400, seed: int = 0) -> Outcomes:
    return np.random.default_rng(seed).random(n) < rate


def result(name: str, outcomes: Outcomes, **changes: Any) -> dict[str, Any]:
    evaluator = {
        "scores": {"top1@k=20": 100 * float(outcomes.mean())},
        "headline": "top1@k=20",
        "protocol": {"evaluator": "knn", "temperature": 0.07},
        "protocol_digest": "p",
        "view": {"crop": 32},
        "outcomes": {"top1@k=20": pack(outcomes)},
    }
    found = {
        "checkpoint": name,
        "evaluators": {"knn": evaluator},
        "data": {"fingerprint": {"train": "a", "test": "b"}},
    }
    evaluator.update(changes.pop("evaluator", {}))
    return {**found, **changes}


@pytest.mark.parametrize("n", [1, 7, 8, 9, 400])
def test_outcomes_come_back_as_they_were(n: int) -> None:
    for outcomes in (hits(0.5, n=n), np.linspace(0, 1, n).astype(np.float32)):
        packed = json.loads(json.dumps(pack(outcomes)))
        assert unpack(packed).tolist() == outcomes.tolist()


def test_ten_thousand_hits_take_less_than_two_kilobytes() -> None:
    assert len(json.dumps(pack(hits(0.5, n=10_000)))) < 2000


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


def test_a_clear_difference_is_told() -> None:
    worse = hits(0.5)
    better = worse | hits(0.3, seed=1)
    found = difference(result("a", better), result("b", worse))
    assert found["distinguishable"]
    assert found["only_ours"] == int((better & ~worse).sum())
    assert found["only_theirs"] == 0
    assert found["difference"] == pytest.approx(100 * (better.mean() - worse.mean()))
    assert found["p"] == pytest.approx(2 * 0.5 ** found["only_ours"])


def test_not_distinguishable_is_an_answer() -> None:
    found = differences([result("a", hits(0.5)), result("b", hits(0.5, seed=3))])[0]
    assert not found["distinguishable"]
    assert difference_line(found).endswith(": not distinguishable")
    assert found["interval"][0] < 0 < found["interval"][1]


def test_equal_checkpoints_are_not_distinguishable() -> None:
    found = difference(result("a", hits(0.5)), result("b", hits(0.5)))
    assert (found["difference"], found["p"], found["distinguishable"]) == (0, 1, False)
    assert found["interval"] == [0, 0]


def test_scores_without_hits_are_tested_by_their_interval() -> None:
    one = np.random.default_rng(0).random(300).astype(np.float32)
    found = difference(result("a", one + np.float32(0.2)), result("b", one[::-1].copy()))
    assert found["p"] is None
    assert found["distinguishable"]


def test_the_best_is_tested_against_each_other() -> None:
    three = [result(name, hits(rate)) for name, rate in (("a", 0.3), ("b", 0.8), ("c", 0.5))]
    assert [(one["ours"], one["theirs"]) for one in differences(three)] == [("b", "c"), ("b", "a")]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"evaluator": {"protocol_digest": "q", "protocol": {"temperature": 0.1}}},
            r"different protocols \(.*temperature: 0.1 and 0.07\)",
        ),
        (
            {"evaluator": {"protocol_digest": "q", "view": {"crop": 64}}},
            r"different protocols \(crop: 64 and 32\)",
        ),
        ({"data": {"fingerprint": {"train": "a", "test": "z"}}}, "different test data"),
        ({"evaluator": {"outcomes": {}}}, "tells nothing of single images"),
        (
            {"evaluator": {"outcomes": {"top1@k=20": pack(hits(0.5, n=399))}}},
            "400 and 399|399 and",
        ),
        ({"evaluators": {}}, "has no score 'knn/top1@k=20'"),
        (
            {"evaluator": {"protocol_digest": "q", "protocol": {"name": "x"}, "scores": {}}},
            r"different protocols \(",
        ),
    ],
)
def test_what_cannot_be_compared_says_why(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        differences([result("a", hits(0.5)), result("b", hits(0.5, seed=1), **changes)])


def test_different_protocols_never_share_a_column() -> None:
    other = result("b", hits(0.5), evaluator={"protocol_digest": "q"})
    found = columns([result("a", hits(0.5)), other, result("c", hits(0.4))])
    assert [[value is None for value in values] for values in found.values()] == [
        [False, True, False],
        [True, False, True],
    ]


def test_results_are_read_from_files_and_run_folders(tmp_path: Path) -> None:
    one, other = result("a", hits(0.5)), result("b", hits(0.4))
    (tmp_path / "evaluation.json").write_text(json.dumps(one))
    (tmp_path / "both.json").write_text(json.dumps({"results": [one, other], "differences": []}))
    assert read_result(tmp_path) == [one]
    assert read_result(tmp_path / "both.json") == [one, other]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"evaluators": []}', "3"])
def test_what_is_no_result_is_one_line(text: str, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    file.write_text(text)
    with pytest.raises(UserError, match=r"is no result of ssl-zoo evaluate"):
        read_result(file)


def test_a_missing_result_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="write it with: ssl-zoo evaluate"):
        read_result(tmp_path / "no.json")
