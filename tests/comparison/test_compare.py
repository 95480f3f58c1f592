"""Comparisons: the same footing, seeds, baselines, and nothing trained twice."""

import json
from pathlib import Path
from typing import Any

import pytest

from ssl_zoo.comparison.compare import compare
from ssl_zoo.errors import UserError
from ssl_zoo.training.train import Trainer
from tests.small import FAST, SHORT

OVERRIDES = (*FAST, *SHORT)
KNN = {"name": "knn", "n_resamples": 100}


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("comparison")


@pytest.fixture(scope="module")
def result(output: Path) -> dict[str, Any]:
    return compare(
        ["swav", "simclr"], seeds=2, evaluators=[KNN], output=output, overrides=OVERRIDES
    )


def test_baselines_stand_below_the_methods(result: dict[str, Any]) -> None:
    names = [row["name"] for row in result["rows"]]
    assert set(names[:2]) == {"swav", "simclr"}
    assert set(names[2:]) == {"random_init", "raw_pixels"}


def test_a_lower_bound_can_be_named_among_the_methods(tmp_path: Path) -> None:
    once = compare(
        ["random_init", "raw_pixels"], evaluators=[KNN], output=tmp_path, overrides=OVERRIDES
    )
    assert {row["name"] for row in once["rows"]} == {"random_init", "raw_pixels"}


def test_methods_are_ranked_by_the_headline(result: dict[str, Any]) -> None:
    assert result["headline"] == "knn/top1@k=20"
    means = [row["scores"]["knn/top1@k=20"]["mean"] for row in result["rows"][:2]]
    assert means == sorted(means, reverse=True)


def test_each_seed_is_a_run_and_their_spread_is_told(result: dict[str, Any], output: Path) -> None:
    assert len([path for path in output.iterdir() if path.is_dir()]) == 8
    for row in result["rows"]:
        if row["name"] == "raw_pixels":
            continue
        score = row["scores"]["knn/top1@k=20"]
        assert len(score["values"]) == 2
        assert score["std"] == pytest.approx(abs(score["values"][0] - score["values"][1]) / 2**0.5)
    pixels = next(row for row in result["rows"] if row["name"] == "raw_pixels")
    assert pixels["scores"]["knn/top1@k=20"]["std"] == 0


def test_cost_stands_beside_the_scores(result: dict[str, Any]) -> None:
    for row in result["rows"]:
        trained = row["name"] in ("swav", "simclr")
        assert row["epochs"] == (1 if trained else 0)
        assert (row["training_seconds"] > 0) is trained
    simclr = next(row for row in result["rows"] if row["name"] == "simclr")
    assert simclr["views_seen"] % (5 * 256 * 2) == 0


def test_the_result_is_written_as_json(result: dict[str, Any], output: Path) -> None:
    assert json.loads((output / "comparison.json").read_text()) == result


def test_all_rows_are_scored_under_one_protocol(result: dict[str, Any]) -> None:
    assert [row["protocols"] for row in result["rows"]] == [result["protocols"]] * 4


def test_a_second_call_trains_and_scores_nothing(
    result: dict[str, Any], output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("done again")

    monkeypatch.setattr(Trainer, "run", refuse)
    monkeypatch.setattr("ssl_zoo.comparison.compare.evaluate", refuse)
    again = compare(
        ["simclr", "swav"], seeds=2, evaluators=[KNN], output=output, overrides=OVERRIDES
    )
    assert again["rows"] == result["rows"]


def test_other_evaluators_score_anew(result: dict[str, Any], output: Path) -> None:
    other = {"name": "knn", "k": [10]}
    again = compare(["simclr"], evaluators=[other], output=output, overrides=OVERRIDES)
    assert again["protocols"] != result["protocols"]


def test_a_single_seed_has_an_interval_over_test_images(
    result: dict[str, Any], output: Path
) -> None:
    once = compare(["simclr"], evaluators=[KNN], output=output, overrides=OVERRIDES)
    score = once["rows"][0]["scores"]["knn/top1@k=20"]
    assert score["std"] is None
    assert score["interval"][0] < score["mean"] < score["interval"][1]


def test_methods_on_different_data_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="'simclr@cifar10' uses data 'cifar10' with other settings"
    ):
        compare(["swav", "simclr@cifar10"], output=tmp_path)
    assert [*tmp_path.iterdir()] == []


def test_methods_with_different_backbones_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="uses backbone 'resnet18' .* than the first method's"):
        compare(["swav", "simclr@cifar10"], output=tmp_path, overrides=["data=digits"])


def test_a_method_that_is_named_twice_is_one_row(result: dict[str, Any], output: Path) -> None:
    twice = compare(["simclr", "simclr"], evaluators=[KNN], output=output, overrides=OVERRIDES)
    assert twice["rows"][0]["name"] == "simclr"
    assert len(twice["rows"]) == 3
