import logging

import numpy as np
import pytest
from numpy.typing import NDArray

from ssl_zoo.errors import UserError
from ssl_zoo.evaluators import checks
from ssl_zoo.evaluators.base import EVALUATORS, Features, ImageEvaluator
from ssl_zoo.evaluators.checks import check_features, check_labels


def ones(n: int, d: int) -> Features:
    return Features(np.ones((n, d), np.float32), np.arange(n))


def test_dimensions_must_agree() -> None:
    with pytest.raises(UserError, match="dimension 4 .*dimension 3"):
        check_features("knn", train=ones(2, 4), test=ones(2, 3))


@pytest.mark.parametrize("empty", [ones(0, 4), ones(2, 0), Features(np.ones(3, np.float32))])
def test_splits_must_hold_vectors(empty: Features) -> None:
    with pytest.raises(UserError, match="those of the test split have shape"):
        check_features("knn", train=ones(2, 4), test=empty)


def test_bad_rows_are_counted_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_BLOCK", 8)
    train = ones(9, 4)
    train.values[[0, 4, 8]] = np.nan
    with pytest.raises(UserError, match="3 of 9 train features"):
        check_features("knn", train=train, test=ones(2, 4))


def test_zeros_are_allowed_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    train = ones(5, 4)
    train.values[:2] = 0
    with caplog.at_level(logging.WARNING):
        check_features("knn", train=train, test=ones(2, 4))
    assert "2 of 5 train features are zero" in caplog.text


def test_labels_must_fit_the_features() -> None:
    with pytest.raises(UserError, match="2 features and labels of shape"):
        check_labels("knn", "train", Features(np.ones((2, 4), np.float32), np.arange(3)))


def test_negative_labels_are_counted() -> None:
    with pytest.raises(UserError, match="2 of 3 test labels are negative"):
        check_labels("knn", "test", Features(np.ones((3, 4), np.float32), np.array([-1, 0, -1])))


ON_FEATURES = [name for name in EVALUATORS if not issubclass(EVALUATORS[name], ImageEvaluator)]


def random_split(labels: NDArray[np.int64] | None) -> Features:
    return Features(np.random.default_rng(0).normal(size=(40, 16)).astype(np.float32), labels)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", ON_FEATURES)
def test_evaluators_need_the_labels_that_they_declare(name: str, split: str) -> None:
    evaluator = EVALUATORS.build(name)
    labels = np.arange(40) % 4
    train = random_split(None if split == "train" else labels)
    test = random_split(None if split == "test" else labels)
    if split in evaluator.labelled:
        with pytest.raises(
            UserError, match=f"{name} needs labels, but the {split} split has none"
        ):
            evaluator.evaluate(train, test)
    else:
        evaluator.evaluate(train, test)


@pytest.mark.parametrize("name", [name for name in ON_FEATURES if EVALUATORS.build(name).labelled])
def test_evaluators_take_several_labels_as_they_declare(name: str) -> None:
    evaluator = EVALUATORS.build(name)
    split = random_split(np.random.default_rng(1).integers(0, 2, size=(40, 4)))
    if evaluator.several_labels:
        evaluator.evaluate(split, split)
    else:
        with pytest.raises(UserError, match="one class per image"):
            evaluator.evaluate(split, split)
