"""Scores of results and comparisons side by side."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssl_zoo.comparison.ranking import COMPARISON_FILE, Comparison, Row
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.outcomes import Outcomes
from ssl_zoo.report.score_table import table
from tests.evaluation.results import small_result


def comparison() -> Comparison:
    scores = {"knn/top1@k=20": {"mean": 60.0, "std": 1.5, "values": [59.0, 61.0]}}
    rows = [
        {
            "name": name,
            "scores": scores,
            "protocols": {"knn": "p"},
            "parameters": 1,
            "epochs": 1,
            "views_seen": 1,
            "training_seconds": 1.0,
        }
        for name in ("swav", "simclr")
    ]
    return Comparison(
        rows=tuple(Row.model_validate(row) for row in rows),
        data="digits",
        backbone="tiny_resnet",
        seeds=2,
        headline="knn/top1@k=20",
        protocols={"knn": "p"},
    )


def hits(rate: float) -> dict[str, Any]:
    found = np.random.default_rng(0).random(400) < rate
    return {
        "scores": {"top1@k=20": 100 * float(found.mean())},
        "outcomes": {"top1@k=20": Outcomes.of(found)},
    }


def test_different_protocols_never_share_a_row() -> None:
    other = small_result("b", protocol_digest="q")
    found = table(small_result("a"), other, small_result("c"))
    assert found.names == ("a", "b", "c")
    assert [row.values for row in found.rows()] == [(50.0, None, 50.0), (None, 50.0, None)]
    assert "different protocols" in found.why_not


def test_a_comparison_on_different_data_stands_apart_with_the_reason() -> None:
    result = small_result("a")
    same = comparison().model_copy(
        update={"data": result.data.name, "fingerprint": result.data.fingerprint}
    )
    assert table(same, result).why_not == ""
    other = result.data.fingerprint.model_copy(update={"test": "z"})
    found = table(same.model_copy(update={"fingerprint": other}), result)
    assert "'a' was scored on data '" in found.why_not
    assert "rows of their own" in found.why_not


def test_scores_on_training_images_are_marked() -> None:
    result = small_result("one")
    images = result.data.model_copy(update={"n_test": 20, "n_test_in_train": 5})
    found = table(result.model_copy(update={"data": images}))
    assert "5 of 20 test images are also train images: scores are too high" in found.title
    assert "also train images" not in table(result).title


def test_different_data_never_share_a_row() -> None:
    found = table(small_result("a"), small_result("b", test="z"))
    assert [row.values for row in found.rows()] == [(50.0, None), (None, 50.0)]


def test_the_best_is_tested_against_the_others() -> None:
    found = table(small_result("a", **hits(0.3)), small_result("b", **hits(0.8)))
    assert [(one.ours, one.theirs) for one in found.differences] == [("b", "a")]
    assert found.why_not == ""


def test_what_cannot_be_tested_is_an_error_where_it_is_asked_for() -> None:
    with pytest.raises(UserError, match="has no score 'knn/top9'"):
        table(small_result("a"), small_result("b"), score="knn/top9")


def test_checkpoints_of_one_name_are_distinguished() -> None:
    assert table(small_result("a"), small_result("a")).names == ("a", "a (2)")


@pytest.mark.parametrize("name", ["", COMPARISON_FILE, "result.json"])
def test_a_comparison_is_read_from_its_folder_or_file(name: str, tmp_path: Path) -> None:
    comparison().save(tmp_path / (name or COMPARISON_FILE))
    found = table(tmp_path / name)
    assert found.names == ("swav", "simclr")
    assert found.rows()[0].values == (60.0, 60.0)
    assert found.cells[0].spread == 1.5


def test_csv_has_a_line_for_each_score(tmp_path: Path) -> None:
    one = small_result("a, b", intervals={"top1@k=20": (40.0, 60.0)})
    table(one, comparison()).to_csv(tmp_path / "scores.csv")
    with (tmp_path / "scores.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["name"] for line in lines] == ["a, b", "swav", "simclr"]
    assert (lines[0]["low"], lines[0]["spread"], lines[1]["low"]) == ("40.0", "", "")


def test_a_notebook_shows_the_rows() -> None:
    shown = table(small_result("<a>"), small_result("b"))._repr_html_()
    assert "<th>&lt;a&gt;</th><th>b</th>" in shown
