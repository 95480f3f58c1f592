"""Mean average precision of votes, against loops in float64 and scikit-learn."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ssl_zoo.errors import UserError
from ssl_zoo.evaluators.base import Features, Scores
from ssl_zoo.evaluators.knn import multilabel
from ssl_zoo.evaluators.knn.evaluator import Knn
from ssl_zoo.evaluators.knn.multilabel import precision_interval, step_average_precision
from tests.evaluators.knn.test_evaluator import votes_of


def several(n: int, seed: int, *, n_classes: int = 6) -> Features:
    """Images that show one class in three, with features that lean towards those."""
    generator = np.random.default_rng(seed)
    labels = (generator.random((n, n_classes)) < 0.3).astype(np.int64)
    centres = np.random.default_rng(99).standard_normal((n_classes, 12))
    values = labels @ centres + generator.standard_normal((n, 12))
    return Features(values.astype(np.float32), labels)


def score(train: Features, test: Features, **settings: Any) -> Scores:
    return Knn(Knn.Config(**{"n_resamples": 100, **settings})).evaluate(train, test)


def precision_by_definition(scores: NDArray[np.float64], relevant: NDArray[np.bool_]) -> float:
    """Sums precision times gain of recall over thresholds, from the highest score down."""
    area, last = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        taken = scores >= threshold
        recall = (taken & relevant).sum() / relevant.sum()
        area += (recall - last) * (taken & relevant).sum() / taken.sum()
        last = recall
    return area


def by_definition(train: Features, test: Features, protocol: str, k: int, t: float) -> float:
    assert train.labels is not None
    assert test.labels is not None
    rows = train.values.astype(np.float64)
    shares = []
    for value in test.values.astype(np.float64):
        if protocol == "spt":
            similarities = -np.linalg.norm(rows - value, axis=1)
        else:
            similarities = rows @ value / np.linalg.norm(rows, axis=1) / np.linalg.norm(value)
        near = np.argsort(-similarities, kind="stable")[:k]
        weights = np.array(votes_of(protocol, list(similarities[near]), t))
        shares.append((weights[:, None] * train.labels[near]).sum(axis=0) / weights.sum())
    found = np.array(shares)
    return 100 * float(
        np.mean([
            precision_by_definition(found[:, one], test.labels[:, one] == 1)
            for one in range(test.labels.shape[1])
        ])
    )  # fmt: skip


@pytest.mark.parametrize(("protocol", "temperature"), [("dino", 0.07), ("spt", 0.07)])
def test_scores_follow_the_definition(protocol: str, temperature: float) -> None:
    train, test = several(200, 0), several(50, 1)
    found = score(train, test, protocol=protocol, k=[5, 20])
    for k in (5, 20):
        expected = by_definition(train, test, protocol, k, temperature)
        assert found.values[f"map@k={k}"] == pytest.approx(expected, abs=1e-6)
    assert 40 < found.values["map@k=20"] < 95


def test_average_precision_is_that_of_scikit_learn_with_ties() -> None:
    from sklearn.metrics import average_precision_score

    generator = np.random.default_rng(0)
    for levels in (1, 3, 1000):
        scores = generator.integers(0, levels, 80) / levels
        relevant = generator.random(80) < 0.2
        assert step_average_precision(scores, relevant) == pytest.approx(
            average_precision_score(relevant, scores)
        )


def test_the_interval_is_that_of_resampled_images() -> None:
    from sklearn.metrics import average_precision_score

    generator = np.random.default_rng(0)
    truth = generator.random((60, 3)) < 0.3
    votes = np.round(0.5 * truth + generator.random((60, 3)), 1)
    counts = np.random.default_rng(5).multinomial(60, np.full(60, 1 / 60), size=200)
    means = [
        np.mean(
            [average_precision_score(t, v) for t, v in zip(truth[i].T, votes[i].T, strict=True)]
        )
        for i in (np.repeat(np.arange(60), one) for one in counts)
    ]
    found = precision_interval(votes, truth, seed=5, n_resamples=200)
    assert found == pytest.approx(np.quantile(means, (0.025, 0.975)))


def test_samples_that_show_nothing_of_a_class_leave_it_out() -> None:
    truth = np.zeros((20, 2), np.bool_)
    truth[0, 0] = truth[5:15, 1] = True
    votes = truth.astype(np.float64)
    assert precision_interval(votes, truth, seed=0, n_resamples=300) == (1.0, 1.0)
    assert precision_interval(votes[:, :1], truth[:, :1], seed=0, n_resamples=300) == (1.0, 1.0)


def test_the_headline_has_an_interval_that_holds_it() -> None:
    found = score(several(200, 0), several(50, 1), n_resamples=100)
    low, high = found.intervals["map@k=20"]
    assert low < found.values["map@k=20"] < high


def test_classes_that_no_test_image_shows_are_left_out() -> None:
    train, test = several(200, 0), several(50, 1)
    assert test.labels is not None
    labels = test.labels.copy()
    labels[:, 2] = 0
    found = score(train, Features(test.values, labels), k=[20])
    assert set(found.details["average_precision_by_class"]) == {"0", "1", "3", "4", "5"}
    every = list(found.details["average_precision_by_class"].values())
    assert found.values["map@k=20"] == pytest.approx(np.mean(every))


def test_blocks_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = several(100, 0), several(30, 1)
    whole = score(train, test, k=[10])
    monkeypatch.setattr(multilabel, "VOTE_NUMBERS", 200)
    assert score(train, test, k=[10]).values == whole.values


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda test: Features(test.values), "those of the test split are none"),
        (lambda test: Features(test.values, test.labels[:, :4]), "6 classes .* 4;"),
        (lambda test: Features(test.values, test.labels * 2), "other than 0 and 1"),
        (lambda test: Features(test.values, test.labels * 0), "no test image shows any class"),
        (lambda test: Features(test.values, test.labels[:, 0]), "of shape"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    change: Callable[[Any], Features], message: str
) -> None:
    train, test = several(60, 0), several(20, 1)
    with pytest.raises(UserError, match=message):
        score(train, change(test))


def test_shots_are_refused() -> None:
    train, test = several(60, 0), several(20, 1)
    with pytest.raises(UserError, match="shots"):
        score(train, test, shots=3)
