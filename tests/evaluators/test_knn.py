"""kNN against a slow float64 version that follows the definition of the protocols."""

import logging
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from ssl_zoo.errors import UserError
from ssl_zoo.evaluators import knn as knn_module
from ssl_zoo.evaluators.base import Features, Scores
from ssl_zoo.evaluators.knn import Knn, truth_ranks
from ssl_zoo.registries import EVALUATORS


def blobs(n: int, seed: int, *, n_classes: int = 10, d: int = 16) -> Features:
    """Overlapping classes around fixed centres."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((n_classes, d))
    labels = generator.integers(0, n_classes, n)
    values = centres[labels] + 1.5 * generator.standard_normal((n, d))
    return Features(values.astype(np.float32), labels.astype(np.int64))


def signs(n: int, seed: int, *, n_classes: int = 7) -> Features:
    """Rows of 16 signs, whose cosines are exact in float32: ties in almost every place."""
    generator = np.random.default_rng(seed)
    values = 2 * generator.integers(0, 2, (n, 16)) - 1
    return Features(values.astype(np.float32), generator.integers(0, n_classes, n))


def by_definition(
    train: Features, test: Features, *, k: int, temperature: float, top: int
) -> float:
    """Returns the accuracy in percent by loops over images, neighbours and classes."""
    assert train.labels is not None
    assert test.labels is not None
    hits = 0
    for value, truth in zip(test.values.astype(np.float64), test.labels, strict=True):
        rows = train.values.astype(np.float64)
        norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(value)
        cosines = np.round(rows @ value / norms, 12)
        order = sorted(range(len(rows)), key=lambda i: (-cosines[i], i))[:k]
        votes: dict[int, float] = {}
        for i in order:
            label = int(train.labels[i])
            votes[label] = votes.get(label, 0.0) + np.exp((cosines[i] - 1) / temperature)
        ranking = sorted(votes, key=lambda label: (-round(votes[label], 12), label))
        hits += int(truth) in ranking[:top]
    return 100 * hits / len(test)


def score(train: Features, test: Features, **settings: Any) -> Scores:
    return Knn(Knn.Config(**settings)).evaluate(train, test)


@pytest.mark.parametrize("protocol", ["dino", "instdisc"])
def test_all_scores_follow_the_definition(protocol: str) -> None:
    train, test = blobs(400, 0), blobs(60, 1)
    scores = score(train, test, protocol=protocol)
    ks, temperature = {"dino": ([10, 20, 100, 200], 0.07), "instdisc": ([200], 0.1)}[protocol]
    expected = {
        f"top{top}@k={k}": by_definition(train, test, k=k, temperature=temperature, top=top)
        for top in (1, 5)
        for k in ks
    }
    assert scores.values == pytest.approx(expected, abs=1e-9)
    assert 30 < scores.values["top1@k=200"] < 90  # neither trivial nor hopeless


def test_ties_follow_the_definition() -> None:
    train, test = signs(300, 0), signs(60, 1)
    scores = score(train, test, k=[1, 2, 3, 10, 50], temperature=0.5)
    for k in (1, 2, 3, 10, 50):
        expected = by_definition(train, test, k=k, temperature=0.5, top=1)
        assert scores.values[f"top1@k={k}"] == pytest.approx(expected)


def test_equal_votes_go_to_the_lowest_class() -> None:
    train = Features(np.ones((4, 2), np.float32), np.array([7, 3, 7, 3]))
    for label, expected in ((3, 100.0), (7, 0.0)):
        test = Features(np.ones((1, 2), np.float32), np.array([label]))
        assert score(train, test, k=[4]).values == {"top1@k=4": expected}


def test_a_class_without_a_vote_is_no_guess() -> None:
    train = Features(np.eye(8, dtype=np.float32), np.arange(8))
    test = Features(np.eye(8, dtype=np.float32)[7:], np.array([0]))
    values = score(train, test, k=[5]).values  # neighbours 7, 0, 1, 2, 3: class 0 has a vote
    assert values == {"top1@k=5": 0.0, "top5@k=5": 100.0}
    test = Features(np.eye(8, dtype=np.float32)[:1], np.array([6]))
    assert score(train, test, k=[5]).values["top5@k=5"] == 0.0


def test_top5_needs_more_than_five_classes_and_five_neighbours() -> None:
    few = score(blobs(50, 0, n_classes=5), blobs(9, 1, n_classes=5), k=[5])
    assert set(few.values) == {"top1@k=5"}
    many = score(blobs(50, 0), blobs(9, 1), k=[4, 5])
    assert set(many.values) == {"top1@k=4", "top1@k=5", "top5@k=5"}


def test_k_above_the_number_of_features_takes_them_all(
    caplog: pytest.LogCaptureFixture,
) -> None:
    train, test = blobs(30, 0), blobs(40, 1)
    with caplog.at_level(logging.WARNING):
        scores = score(train, test, k=[30, 200])
    assert scores.values["top1@k=200"] == scores.values["top1@k=30"]
    assert "30 train features" in caplog.text


def test_order_of_features_does_not_matter() -> None:
    train, test = blobs(300, 0), blobs(50, 1)
    assert train.labels is not None
    assert test.labels is not None
    a, b = np.random.default_rng(5).permutation(300), np.random.default_rng(6).permutation(50)
    shuffled = score(
        Features(train.values[a], train.labels[a]), Features(test.values[b], test.labels[b])
    )
    assert shuffled.values == pytest.approx(score(train, test).values)


def test_scale_of_features_does_not_matter() -> None:
    train, test = blobs(300, 0), blobs(50, 1)
    scales = np.random.default_rng(5).uniform(1e-3, 1e3, (300, 1)).astype(np.float32)
    scaled = Features(train.values * scales, train.labels)
    assert score(scaled, test).values == score(train, test).values


def test_duplicates_of_test_features_are_found_whatever_the_labels_are() -> None:
    test = blobs(40, 1)
    assert test.labels is not None
    labels = 1000 * test.labels + 17
    scores = score(Features(test.values, labels), Features(test.values, labels), k=[1])
    assert scores.values["top1@k=1"] == 100.0


def test_a_class_that_train_lacks_is_always_wrong() -> None:
    train = Features(np.eye(4, dtype=np.float32), np.array([0, 1, 3, 4]))
    test = Features(np.eye(4, dtype=np.float32), np.array([0, 2, 3, 9]))
    assert score(train, test, k=[1]).values["top1@k=1"] == 50.0


@pytest.mark.parametrize("temperature", [1e-6, 1e-3, 1000])
def test_any_temperature_gives_finite_votes(temperature: float) -> None:
    train, test = blobs(100, 0), blobs(40, 1)
    values = score(train, test, k=[1, 20], temperature=temperature).values
    assert all(0 <= value <= 100 for value in values.values())
    if temperature < 1e-3:
        assert values["top1@k=20"] == values["top1@k=1"]  # only the nearest counts


def test_votes_in_blocks_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = blobs(100, 0), blobs(40, 1)
    whole = score(train, test)
    monkeypatch.setattr(knn_module, "VOTE_NUMBERS", 30)
    assert score(train, test) == whole


def test_absent_neighbours_have_no_vote() -> None:
    cosines = np.array([[0.5, 0.4, -np.inf, -np.inf]], dtype=np.float32)
    labels = np.array([[1, 0, 2, 2]])
    ranks = truth_ranks(cosines, labels, np.array([2]), k=(4,), temperature=1000.0, n_classes=3)
    assert ranks[4].tolist() == [3]


def test_intervals_hold_the_scores_and_depend_on_the_seed_only() -> None:
    train, test = blobs(300, 0), blobs(100, 1)
    evaluator = Knn(Knn.Config())
    first, again, other = (evaluator.evaluate(train, test, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first.values == other.values
    assert first.intervals.keys() == first.values.keys()
    for name, (low, high) in first.intervals.items():
        assert low <= first.values[name] <= high


def test_protocol_and_headline_are_in_the_scores() -> None:
    scores = score(blobs(300, 0), blobs(20, 1))
    assert scores.headline == "top1@k=20"
    assert scores.protocol["name"] == "dino"
    assert scores.protocol["temperature"] == 0.07
    assert len(scores.protocol["digest"]) == 12


def test_text_names_the_protocol() -> None:
    config = EVALUATORS.config("knn:instdisc")
    assert isinstance(config, Knn.Config)
    assert config.protocol == "instdisc"


def test_numbers_of_neighbours_must_differ() -> None:
    with pytest.raises(ValidationError, match="names a number twice"):
        Knn.Config(k=(5, 5))


def test_labels_are_demanded_of_both_splits() -> None:
    good = blobs(20, 0)
    with pytest.raises(UserError, match="needs labels, and the train split has none"):
        score(Features(good.values), good)
    with pytest.raises(UserError, match="needs labels, and the test split has none"):
        score(good, Features(good.values))


def test_one_class_to_learn_from_is_refused_and_one_to_test_on_is_not() -> None:
    good, same = blobs(20, 0), np.full(20, 4)
    with pytest.raises(UserError, match="all 20 images of the train split are of class 4"):
        score(Features(good.values, same), good)
    assert score(good, Features(good.values, same), k=[1])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_counted(value: float) -> None:
    good = blobs(20, 0)
    values: NDArray[np.float32] = good.values.copy()
    values[3], values[7, 2] = value, value
    with pytest.raises(UserError, match="2 of 20 test features hold NaN or infinite"):
        score(good, Features(values, good.labels))
