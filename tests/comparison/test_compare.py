"""Comparisons: the same footing, seeds, baselines, and nothing trained twice."""

import itertools
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from ssl_zoo.comparison.compare import compare
from ssl_zoo.comparison.ranking import Comparison
from ssl_zoo.errors import UserError
from ssl_zoo.runs.config import RunConfig, run_config
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.training.train import Trainer
from tests.data import folders
from tests.small import FAST, SHORT

OVERRIDES = (*FAST, *SHORT)
KNN: dict[str, Any] = {"name": "knn", "n_resamples": 100}


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("comparison")


@pytest.fixture(scope="module")
def result(output: Path) -> Comparison:
    return compare(
        ["swav", "simclr"], seeds=2, evaluators=[KNN], output=output, overrides=OVERRIDES
    )


def test_baselines_rank_below_the_methods(result: Comparison) -> None:
    names = [row.name for row in result.rows]
    assert set(names[:2]) == {"swav", "simclr"}
    assert set(names[2:]) == {"random_init", "raw_pixels"}


def test_a_lower_bound_can_be_named_among_the_methods(tmp_path: Path) -> None:
    once = compare(
        ["random_init", "raw_pixels"], evaluators=[KNN], output=tmp_path, overrides=OVERRIDES
    )
    assert {row.name for row in once.rows} == {"random_init", "raw_pixels"}


def test_methods_are_ranked_by_the_headline(result: Comparison) -> None:
    assert result.headline == "knn/top1@k=20"
    means = [row.scores["knn/top1@k=20"].mean for row in result.rows[:2]]
    assert means == sorted(means, reverse=True)


def test_each_seed_is_a_run_and_their_spread_is_reported(result: Comparison, output: Path) -> None:
    assert len([*output.glob("*/config.yaml")]) == 8
    for row in result.rows:
        if row.name == "raw_pixels":
            continue
        score = row.scores["knn/top1@k=20"]
        assert len(score.values) == 2
        assert score.std == pytest.approx(abs(score.values[0] - score.values[1]) / 2**0.5)
    pixels = next(row for row in result.rows if row.name == "raw_pixels")
    assert pixels.scores["knn/top1@k=20"].std == 0


def test_cost_is_next_to_the_scores(result: Comparison) -> None:
    for row in result.rows:
        trained = row.name in ("swav", "simclr")
        assert row.epochs == (1 if trained else 0)
        assert (row.training_seconds > 0) is trained
        assert row.images_seen == (5 * 256 if trained else 0)
        assert (row.flops is not None) is trained
        assert (row.host_gb is not None) is trained
    simclr = next(row for row in result.rows if row.name == "simclr")
    assert simclr.views_seen == 5 * 256 * 2


def test_the_result_is_written_as_json(result: Comparison, output: Path) -> None:
    assert Comparison.load(output) == result


def test_all_rows_are_scored_under_one_protocol(result: Comparison) -> None:
    assert [row.protocols for row in result.rows] == [result.protocols] * 4


def test_a_second_call_trains_and_scores_nothing(
    result: Comparison, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("done again")

    monkeypatch.setattr(Trainer, "run", refuse)
    monkeypatch.setattr("ssl_zoo.comparison.compare.evaluate", refuse)
    again = compare(
        ["simclr", "swav"], seeds=2, evaluators=[KNN], output=output, overrides=OVERRIDES
    )
    assert again.rows == result.rows


def test_other_evaluators_score_again(result: Comparison, output: Path) -> None:
    other: dict[str, Any] = {"name": "knn", "k": [10]}
    again = compare(["simclr"], evaluators=[other], output=output, overrides=OVERRIDES)
    assert again.protocols != result.protocols


def test_a_single_seed_has_an_interval_over_test_images(result: Comparison, output: Path) -> None:
    once = compare(["simclr"], evaluators=[KNN], output=output, overrides=OVERRIDES)
    score = once.rows[0].scores["knn/top1@k=20"]
    assert score.std is None
    assert score.interval is not None
    assert score.interval[0] < score.mean < score.interval[1]
    names = [row.name for row in once.rows]
    pairs = [(one.ours, one.theirs) for one in once.differences]
    assert pairs == [*itertools.combinations(names, 2)]
    by_hand = score.mean - once.row("raw_pixels").scores["knn/top1@k=20"].mean
    (found,) = (
        one for one in once.differences if (one.ours, one.theirs) == (names[0], "raw_pixels")
    )
    assert found.difference == pytest.approx(by_hand)


def test_all_pairs_are_tested_over_seeds_and_images(result: Comparison) -> None:
    assert len(result.differences) == 6
    for one in result.differences:
        assert (one.n_seeds, one.only_ours) == (2, None)
        assert one.p is not None
        assert one.p_corrected is not None
        assert one.p <= one.p_corrected
        assert one.distinguishable is (one.p_corrected < 0.05)
        means = [result.row(name).scores["knn/top1@k=20"].mean for name in (one.ours, one.theirs)]
        assert one.difference == pytest.approx(means[0] - means[1])


def test_each_row_has_its_rank_and_how_sure_that_is(result: Comparison) -> None:
    by_score = sorted(result.rows, key=lambda row: -row.scores["knn/top1@k=20"].mean)
    assert [row.rank for row in by_score] == [1, 2, 3, 4]
    for row in result.rows:
        assert row.rank is not None
        assert row.rank_interval is not None
        assert row.rank_interval[0] <= row.rank <= row.rank_interval[1]


def test_each_row_names_its_runs(result: Comparison, output: Path) -> None:
    for row in result.rows:
        configs = [RunFolder(output / run).config() for run in row.runs]
        assert [config.seed for config in configs] == [0, 1]
        assert {config.method.name for config in configs} == {row.name}


def refusal(monkeypatch: pytest.MonkeyPatch, *methods: str, **options: Any) -> str:
    """Returns why methods are not compared; fails where any was trained before."""

    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("trained before all was checked")

    monkeypatch.setattr("ssl_zoo.comparison.compare.train", refuse)
    with pytest.raises(UserError) as caught:
        compare([*methods], **{"evaluators": [KNN], "overrides": OVERRIDES, **options})
    return str(caught.value)


def test_methods_on_different_data_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = refusal(monkeypatch, "swav", "simclr@cifar10", output=tmp_path, overrides=[])
    assert "'simclr@cifar10' and 'swav'" in message
    assert "data.name: cifar10 against digits_affine" in message
    assert "--set data=digits_affine" in message
    assert [*tmp_path.iterdir()] == []


def test_methods_with_different_backbones_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = refusal(
        monkeypatch, "swav", "simclr@cifar10", output=tmp_path, overrides=["data=digits"]
    )
    assert "backbone.name: resnet18 against tiny_resnet" in message


def with_other_settings(monkeypatch: pytest.MonkeyPatch, method: str, *overrides: str) -> None:
    """Lets the recipe of one method differ."""

    def changed(name: str | None = None, **options: Any) -> RunConfig:
        mine = overrides if name and name.startswith(method) else ()
        options["overrides"] = [*options.get("overrides", ()), *mine]
        return run_config(name, **options)

    monkeypatch.setattr("ssl_zoo.comparison.contenders.run_config", changed)


def test_the_field_in_which_recipes_differ_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_other_settings(monkeypatch, "simclr", "data.std=[0.228, 0.224, 0.225]")
    overrides = [*OVERRIDES, "data.std=[0.229, 0.224, 0.225]"]
    message = refusal(monkeypatch, "swav", "simclr", output=tmp_path, overrides=overrides)
    assert "data.std.0: 0.228 against 0.229" in message
    assert "data.std.1" not in message
    assert "--set data.std.0=0.229" in message


def test_a_later_method_that_cannot_run_is_named_before_any_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_other_settings(monkeypatch, "simclr", "global_batch_size=100000")
    message = refusal(monkeypatch, "swav", "simclr", output=tmp_path)
    assert message.startswith("'simclr': ")
    assert "global_batch_size of 100000" in message


@pytest.fixture
def photos(tmp_path: Path) -> list[str]:
    """Settings of a run on a folder of images with classes and both splits."""
    folders.two_classes(tmp_path / "photos", n=20)
    data = f"data={{name: image_folder, root: {tmp_path / 'photos'}}}"
    return [*OVERRIDES, data, "global_batch_size=32"]


def test_data_without_a_test_split_is_refused_before_any_training(
    photos: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(tmp_path / "photos" / "val")
    message = refusal(monkeypatch, "simclr", output=tmp_path / "out", overrides=photos)
    assert "data.test" in message


@pytest.mark.parametrize(
    "evaluator", ["knn", "clustering", "linear", "svm", "retrieval", "linear_sgd", "finetune"]
)
def test_evaluators_that_need_labels_are_refused_where_there_are_none(
    evaluator: str, photos: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = refusal(
        monkeypatch,
        "simclr",
        output=tmp_path / "out",
        overrides=[*photos, "data.labels=none"],
        evaluators=["health", evaluator],
    )
    assert f"{evaluator} needs labels" in message


@pytest.mark.parametrize(
    ("evaluators", "expected"),
    [
        (["knn", "kn"], "unknown evaluator 'kn'"),
        (["knn", "knn"], "evaluator 'knn:dino' is given twice"),
        ([], "no evaluator.*choose from: clustering, "),
        (["knn", "prototypes"], "'simclr': .*'prototypes'"),
    ],
)
def test_evaluators_that_cannot_run_are_refused_before_any_training(
    evaluators: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = refusal(monkeypatch, "swav", "simclr", output=tmp_path, evaluators=evaluators)
    assert re.search(expected, message)


def test_a_method_that_is_named_twice_is_one_row(result: Comparison, output: Path) -> None:
    twice = compare(["simclr", "simclr"], evaluators=[KNN], output=output, overrides=OVERRIDES)
    assert twice.rows[0].name == "simclr"
    assert len(twice.rows) == 3


def test_scores_without_labels_rank_nothing(output: Path, result: Comparison) -> None:
    """The runs are those of the fixtures."""
    names = ["swav", "simclr"]
    for order in (names, names[::-1]):
        found = compare(order, seeds=1, evaluators=["health"], output=output, overrides=OVERRIDES)
        assert [row.name for row in found.rows[:2]] == order
        assert (found.headline, found.ranked, found.differences) == ("health/rankme", False, ())
        assert found.why_not_ranked.startswith("not ranked: health/rankme needs no labels")
    assert result.why_not_ranked == ""


def test_of_several_evaluators_one_that_compares_methods_ranks(output: Path) -> None:
    found = compare(
        ["swav", "simclr"], seeds=1, evaluators=["health", KNN], output=output, overrides=OVERRIDES
    )
    assert (found.headline, found.ranked) == ("knn/top1@k=20", True)
