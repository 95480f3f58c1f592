import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.svm import LinearSVC

from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.evaluate import evaluate
from ssl_zoo.evaluators.base import Features, Scores
from ssl_zoo.evaluators.probes import svm as module
from ssl_zoo.evaluators.probes.average_precision import voc_average_precision
from ssl_zoo.evaluators.probes.svm import Svm, few_rows
from tests.data import voc_folder

QUICK = {"low_shot": (), "n_resamples": 100}


def shown(n: int, seed: int, *, n_classes: int = 3, noise: float = 1.0) -> Features:
    """Images that show any number of classes, each along an axis."""
    generator = np.random.default_rng(seed)
    labels = (generator.random((n, n_classes)) < 0.4).astype(np.int64)
    values = np.concatenate([labels, np.ones((n, 5))], axis=1)
    values += noise * generator.standard_normal(values.shape)
    return Features(values.astype(np.float32), labels)


def score(train: Features, test: Features, *, seed: int = 0, **settings: Any) -> Scores:
    return Svm(Svm.Config(**{**QUICK, **settings})).evaluate(train, test, seed=seed)


def unit(features: Features) -> NDArray[np.float64]:
    exact = features.values.astype(np.float64)
    found: NDArray[np.float64] = exact / np.linalg.norm(exact, axis=1, keepdims=True)
    return found


def test_the_score_is_that_of_scikit_learns_machines() -> None:
    train, test = shown(100, 0), shown(80, 1)
    found = score(train, test, costs=(1.0,), tolerance=1e-8)
    assert train.labels is not None
    assert test.labels is not None
    expected = []
    for place in range(3):
        peer = LinearSVC(C=1.0, class_weight={1: 2, 0: 1}, tol=1e-10, max_iter=1_000_000)
        peer.fit(unit(train), train.labels[:, place])
        scores = peer.decision_function(unit(test))
        expected.append(100 * voc_average_precision(scores, test.labels[:, place] == 1)[0])
    assert list(found.details["ap_by_class"].values()) == pytest.approx(expected, abs=1e-3)
    assert found.values["map"] == pytest.approx(np.mean(expected), abs=1e-3)
    assert 45 < found.values["map"] < 95  # neither chance nor trivial


def test_each_class_has_the_cost_of_best_cross_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripted: the first class likes the smallest cost, the second the largest."""
    calls = []
    original = module.precisions

    def script(scores: Any, labels: Any) -> Any:
        calls.append(len(labels))
        if len(labels) == 80:  # the test split
            return original(scores, labels)
        place = (len(calls) - 1) % 3
        return np.array([0.9, 0.2, 0.5]) if place == 0 else np.array([0.1, 0.3 + place / 10, 0.4])

    monkeypatch.setattr(module, "precisions", script)
    found = score(shown(90, 0), shown(80, 1), costs=(10.0, 0.1, 1.0), n_folds=3)
    assert found.details["cost_by_class"] == {"0": 0.1, "1": 10.0, "2": 0.1}
    assert calls == [30] * 9 + [80]


def test_the_test_split_takes_no_part_in_the_choice() -> None:
    train = shown(60, 0)
    first, other = (score(train, shown(40, seed, noise=seed)).details for seed in (1, 2))
    for name in ("cost_by_class", "cross_validated_map_by_cost"):
        assert first[name] == other[name]


def test_classes_far_apart_are_perfect() -> None:
    assert score(shown(60, 0, noise=0.01), shown(40, 1, noise=0.01)).values["map"] == 100


def test_images_of_one_class_each_are_taken_as_that() -> None:
    labels = np.arange(60) % 3
    values = np.eye(3)[labels] + 0.5 * np.random.default_rng(0).standard_normal((60, 3))
    single = Features(values.astype(np.float32), 10 * labels + 3)
    marks = Features(single.values, np.eye(3, dtype=np.int64)[labels])
    found = score(single, single)
    assert found.values == score(marks, marks).values
    assert list(found.details["ap_by_class"]) == ["3", "13", "23"]


def test_few_images_of_each_class_are_drawn_several_times() -> None:
    found = score(shown(60, 0), shown(40, 1), low_shot=(1, 8), n_draws=4)
    assert set(found.values) == {"map", "map@k=1", "map@k=1_std", "map@k=8", "map@k=8_std"}
    assert found.values["map@k=1_std"] > 0
    once = score(shown(60, 0), shown(40, 1), low_shot=(1,), n_draws=1)
    assert set(once.values) == {"map", "map@k=1"}


def test_more_images_tell_more() -> None:
    values = score(shown(200, 0), shown(200, 1), low_shot=(1, 32)).values
    assert values["map@k=1"] < values["map@k=32"] < values["map"] + 5


def test_as_many_images_as_there_are_leave_no_spread() -> None:
    values = score(shown(30, 0), shown(40, 1), low_shot=(999,), tolerance=1e-8).values
    assert values["map@k=999_std"] == pytest.approx(0, abs=1e-6)


def test_few_rows_show_their_class() -> None:
    labels = np.array([[1, 0], [1, 1], [0, 1], [0, 0], [1, -1]])
    rows = few_rows(labels, 2, seed=[0])
    assert len(rows) == 4
    assert (labels[rows[:2], 0] == 1).all()
    assert sorted(rows[2:]) == [1, 2]
    np.testing.assert_array_equal(rows, few_rows(labels, 2, seed=[0]))
    assert len(few_rows(labels, 99, seed=[0])) == 5


def test_unsure_images_are_left_out_of_their_class() -> None:
    train, test = shown(60, 0), shown(40, 1)
    assert train.labels is not None
    assert test.labels is not None
    labels, wanted = train.labels.copy(), test.labels.copy()
    labels[:20, 0] = wanted[:10, 0] = -1
    unsure = score(Features(train.values, labels), Features(test.values, wanted), costs=(1.0,))
    cut = score(
        Features(train.values[20:], train.labels[20:]), Features(test.values[10:], test.labels[10:]),
        costs=(1.0,),
    )  # fmt: skip
    ours, theirs = (found.details["ap_by_class"]["0"] for found in (unsure, cut))
    assert ours == pytest.approx(theirs, abs=0.1)


def test_a_class_that_no_test_image_shows_is_left_out() -> None:
    test = shown(40, 1)
    assert test.labels is not None
    test.labels[:, 1] = 0
    assert list(score(shown(60, 0), test).details["ap_by_class"]) == ["0", "2"]


def test_equal_seeds_give_equal_scores() -> None:
    train, test = shown(60, 0), shown(40, 1)
    first, again, other = (score(train, test, low_shot=(1,), seed=seed) for seed in (3, 3, 4))
    assert (first.values, first.intervals) == (again.values, again.intervals)
    assert first.values["map@k=1"] != other.values["map@k=1"]


def test_the_interval_holds_the_score() -> None:
    found = score(shown(60, 0), shown(40, 1))
    low, high = found.intervals["map"]
    assert low < found.values["map"] < high


def test_digest_depends_on_settings_and_not_on_the_seed() -> None:
    train, test = shown(60, 0), shown(40, 1)
    digest = score(train, test).protocol["digest"]
    assert score(train, test, n_resamples=200, seed=4).protocol["digest"] == digest
    assert score(train, test, positive_weight=1.0).protocol["digest"] != digest


def test_fits_that_do_not_converge_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = score(shown(60, 0), shown(40, 1), costs=(100.0,), max_iterations=1)
    assert found.details["converged"] is False
    assert "svm: the fit with cost 100 did not converge in 1 steps" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda one: None, "svm needs labels, but the test split has none"),
        (lambda one: 2 * one, "test labels .* other than -1, 0 and 1"),
        (lambda one: one[:, :2], "train labels .*3 classes .*test labels .*2;"),
        (lambda one: 0 * one, "no test image shows any class"),
        (lambda one: 0 * one - (one == 0), "no test image shows any class"),
    ],
)
def test_wrong_labels_are_refused(change: Any, message: str) -> None:
    train, test = shown(60, 0), shown(40, 1)
    wrong = Features(test.values, change(test.labels))
    if wrong.labels is None:
        train = Features(train.values, np.arange(60) % 2)
    with pytest.raises(UserError, match=message):
        score(train, wrong)


def test_a_voc_folder_is_scored_from_its_images(tmp_path: Path) -> None:
    many = {
        split: {f"{start + n:06d}": {("cat", "dog")[n % 2]: "easy"} for n in range(12)}
        for split, start in (("trainval", 0), ("test", 100))
    }
    root = voc_folder.write(tmp_path / "VOC2007", many)
    result = evaluate(
        "untrained:tiny_resnet", data={"name": "voc", "root": str(root)}, image_size=16,
        evaluators=[{"name": "svm", "low_shot": [1, 2], "n_resamples": 100}],
    )  # fmt: skip
    found = result.evaluators["svm"]
    assert set(found.details["ap_by_class"]) == {"0", "1"}
    assert 0 < found.scores["map"] <= 100
