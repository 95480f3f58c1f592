import logging

import numpy as np
import pytest

from ssl_zoo.errors import UserError
from ssl_zoo.evaluators import checks
from ssl_zoo.evaluators.base import Features
from ssl_zoo.evaluators.checks import check_features, check_labels


def ones(n: int, d: int) -> Features:
    return Features(np.ones((n, d), np.float32), np.arange(n))


def test_dimensions_must_agree() -> None:
    with pytest.raises(UserError, match="have 4 numbers each and test features 3"):
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
