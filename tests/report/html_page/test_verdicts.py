"""Verdicts in plain words."""

from typing import Any

from ssl_zoo.comparison.ranking import Comparison
from ssl_zoo.evaluation.differences import Difference
from ssl_zoo.report.html_page.verdicts import of_comparison, of_results, pair_line
from tests.evaluation.results import small_result

SCORE = "knn/top1@k=20"


def comparison(*differences: Difference, **changes: Any) -> Comparison:
    """Returns a comparison of two methods and a baseline, the first of which is `a`."""
    rows = [
        {
            "name": name,
            "scores": {SCORE: {"mean": 60.0, "std": changes.get("std"), "values": [60.0]}},
            "protocols": {"knn": "p"},
            "parameters": 1,
            "epochs": epochs,
            "views_seen": 1,
            "training_seconds": 1.0,
        }
        for name, epochs in (("a", 3), ("b", 3), ("pixels", 0))
    ]
    known = {"data": "digits", "backbone": "net", "seeds": 1, "headline": SCORE}
    known |= {"protocols": {"knn": "p"}, "differences": [*differences]}
    changes.pop("std", None)
    return Comparison.model_validate({**known, "rows": rows, **changes})


def against(theirs: str, gap: float, *, distinguishable: bool) -> Difference:
    return Difference(
        ours="a",
        theirs=theirs,
        score=SCORE,
        n=359,
        difference=gap,
        interval=(gap - 2, gap + 2),
        p=0.25,
        distinguishable=distinguishable,
    )


def test_a_significant_difference_is_called_better() -> None:
    found = of_comparison(
        comparison(
            against("b", 5.0, distinguishable=True), against("pixels", 9.0, distinguishable=True)
        )
    )
    assert found.text == "a is better than b."
    assert found.lines[0] == (
        "a is better than b: +5.00 points of knn/top1@k=20 [+3.00, +7.00], p = 0.2500, 359 test images"
    )


def test_other_differences_are_not_distinguishable() -> None:
    found = of_comparison(comparison(against("b", 1.0, distinguishable=False)))
    assert found.text == "a and b are not distinguishable."


def test_several_equals_are_each_compared_with_the_best() -> None:
    found = of_comparison(
        comparison(*(against(name, 1.0, distinguishable=False) for name in ("one", "two")))
    )
    assert found.text == "a is not distinguishable from one and two."


def test_a_method_below_a_baseline_is_told_in_the_verdict() -> None:
    worse = against("pixels", -9.0, distinguishable=True)
    found = of_comparison(comparison(against("b", 5.0, distinguishable=True), worse))
    assert found.text == "a is better than b. a is not better than pixels, which is not trained."
    assert pair_line(worse).startswith("a is worse than pixels: -9.00 points")


def test_a_method_alone_is_compared_with_baselines() -> None:
    worse = against("pixels", -9.0, distinguishable=True)
    equal = against("other", 1.0, distinguishable=False)
    found = of_comparison(comparison(worse, equal))
    assert found.text == "a is not distinguishable from other, and worse than pixels."


def test_several_seeds_are_ranked_and_not_tested() -> None:
    found = of_comparison(comparison(seeds=3, std=1.5))
    assert found.text == f"a has the highest {SCORE}: 60.00 ± 1.50 over 3 seeds."
    assert "No test" in found.note


def test_a_baseline_with_a_higher_mean_over_seeds_is_told() -> None:
    several = comparison(seeds=3, std=1.5)
    *trained, pixels = several.rows
    higher = pixels.scores[SCORE].model_copy(update={"mean": 65.0})
    pixels = pixels.model_copy(update={"scores": {SCORE: higher}})
    found = of_comparison(several.model_copy(update={"rows": (*trained, pixels)}))
    assert "of what was trained the highest" in found.text
    assert found.text.endswith("pixels, which is not trained, has 65.00.")


def test_what_is_not_ranked_has_no_winner() -> None:
    assert of_comparison(comparison(ranked=False)).text.startswith("Not ranked: ")


def test_results_under_different_protocols_have_no_verdict() -> None:
    found = of_results([("a", small_result("x")), ("b", small_result("y", protocol_digest="q"))])
    assert found is not None
    assert found.text == "The scores are not compared."
    assert "'b' and 'a' were scored by knn under different protocols" in found.lines[0]


def test_all_pairs_are_listed_and_the_sentence_is_about_the_best() -> None:
    pairs = [against("b", 5.0, distinguishable=True), against("pixels", 9.0, distinguishable=True)]
    other = against("pixels", 4.0, distinguishable=False).model_copy(update={"ours": "b"})
    found = of_comparison(
        comparison(*(one.model_copy(update={"p_corrected": 0.75}) for one in (*pairs, other)))
    )
    assert found.text == "a is better than b."
    assert found.lines[2].startswith("b and pixels are not distinguishable: +4.00 points")
    assert "p = 0.2500, corrected p = 0.7500" in found.lines[2]
    assert "Holm's method has corrected for the number of pairs, 3" in found.note


def test_tests_over_seeds_say_so() -> None:
    one = against("b", 5.0, distinguishable=True).model_copy(update={"n_seeds": 3})
    found = of_comparison(comparison(one, seeds=3, std=1.5))
    assert found.text == "a is better than b."
    assert "over test images and 3 training seeds" in found.note
