"""Results as files: what comes back, of today's shape and of older ones."""

import json
from pathlib import Path
from typing import Any

import pytest

from ssl_zoo.comparison.ranking import Comparison
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.result import Result, View, read_results
from tests.evaluation.results import small_result

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
OF_RESULTS = [
    *EXPERIMENTS.glob("*evaluators_on_real_images/result*.json"),
    *EXPERIMENTS.glob("*photographs_in_45_minutes/result*.json"),
    *EXPERIMENTS.glob("*swav_cifar10_cpu/result.json"),
]
OF_COMPARISONS = [
    path for path in sorted(EXPERIMENTS.glob("2026-*/result*.json")) if path not in OF_RESULTS
]
FOUND: dict[str, Any] = {
    "scores": {"nmi": 8.916, "top1@k=20": 23.398, "nmi_std": 0.359, "other_std": 1.0},
    "intervals": {"top1@k=20": (19.22, 27.86)},
}


def test_a_result_comes_back_as_it_was(tmp_path: Path) -> None:
    one = small_result("a", **FOUND)
    one.save(tmp_path / "a.json")
    assert Result.load(tmp_path / "a.json") == one
    assert json.loads((tmp_path / "a.json").read_text())["checkpoint"] == "a"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_results_are_read_from_files_and_run_folders(tmp_path: Path) -> None:
    one, other = small_result("a"), small_result("b")
    one.save(tmp_path / "evaluation.json")
    both = {"results": [each.model_dump(mode="json") for each in (one, other)], "differences": []}
    (tmp_path / "both.json").write_text(json.dumps(both))
    assert read_results(tmp_path) == [one]
    assert read_results(tmp_path / "both.json") == [one, other]


def test_files_without_a_version_are_read(tmp_path: Path) -> None:
    """The oldest have one transform for all evaluators, and neither layer nor precision."""
    written = small_result("a").model_dump(mode="json")
    del written["schema_version"], written["layer"], written["precision"], written["request"]
    view = written["evaluators"]["knn"].pop("view")
    del written["evaluators"]["knn"]["outcomes"], written["evaluators"]["knn"]["details"]
    written["transform"] = {name: view[name] for name in ("resize", "crop", "interpolation")}
    (tmp_path / "old.json").write_text(json.dumps(written))
    (found,) = read_results(tmp_path / "old.json")
    assert (found.layer, found.precision, found.schema_version) == ("pooled", "fp32", 2)
    assert found.evaluators["knn"].view == View(resize=32, crop=32, interpolation="bicubic")


@pytest.mark.parametrize("path", OF_RESULTS, ids=lambda path: path.name)
def test_results_of_the_experiments_are_read(path: Path) -> None:
    results = read_results(path)
    text = json.loads(path.read_text())
    n_expected = len(text.get("results", text if "swav" in text else [text]))
    assert len(results) == n_expected
    for result in results:
        for found in result.evaluators.values():
            assert found.value == found.scores[found.headline]
            assert len(found.protocol_digest) == 12


@pytest.mark.parametrize("path", OF_COMPARISONS, ids=lambda path: path.parent.name)
def test_comparisons_of_the_experiments_are_read(path: Path) -> None:
    comparison = Comparison.load(path)
    written = json.loads(path.read_text())
    assert [row.name for row in comparison.rows] == [row["name"] for row in written["rows"]]
    first = written["rows"][0]["scores"][comparison.headline]
    assert comparison.rows[0].scores[comparison.headline].values == tuple(first["values"])


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"evaluators": []}', "3", '{"results": []}', "[{}]"]
)
def test_what_is_no_result_is_one_line(text: str, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    file.write_text(text)
    with pytest.raises(UserError, match="result.json' is not a result of ssl-zoo evaluate") as e:
        read_results(file)
    assert "\n" not in str(e.value)


def test_a_missing_result_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="write it with: ssl-zoo evaluate"):
        read_results(tmp_path / "no.json")


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    newer = {**small_result("a").model_dump(mode="json"), "schema_version": 9}
    (tmp_path / "newer.json").write_text(json.dumps(newer))
    with pytest.raises(UserError, match="schema version 9.* up to 2"):
        Result.load(tmp_path / "newer.json")


def test_a_spread_is_next_to_its_score() -> None:
    rows = small_result("a", **FOUND).rows()
    assert [(row.score, f"{row.value:.2f}", row.uncertainty) for row in rows] == [
        ("nmi", "8.92", "±0.36 over seeds"),
        ("top1@k=20", "23.40", "19.22 to 27.86"),
        ("other_std", "1.00", ""),
    ]


def test_a_notebook_shows_a_table() -> None:
    shown = small_result("runs/<a>", **FOUND)._repr_html_()
    assert "runs/&lt;a&gt; on digits" in shown
    assert "<td>23.40</td><td>19.22 to 27.86</td>" in shown
