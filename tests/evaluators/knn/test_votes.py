import numpy as np
import pytest
from numpy.typing import NDArray

from ssl_zoo.evaluators.knn import votes
from ssl_zoo.evaluators.knn.votes import class_details, count_votes


def by_similarity(similarities: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.exp(similarities.astype(np.float64))


def test_absent_neighbours_have_no_vote() -> None:
    similarities = np.array([[0.5, 0.4, -np.inf, -np.inf]], dtype=np.float32)
    labels = np.array([[1, 0, 2, 2]])
    ballot = count_votes(
        similarities, labels, np.array([2]), weigh=by_similarity, k=(4,), n_classes=3
    )[4]
    assert (ballot.ranks.tolist(), ballot.guesses.tolist()) == ([3], [1])


def test_most_votes_are_the_guess_and_each_k_has_its_own() -> None:
    similarities = np.array([[0.3, 0.2, 0.1]], dtype=np.float32)
    found = count_votes(
        similarities, np.array([[2, 0, 0]]), np.array([0]), weigh=by_similarity, k=(1, 3), n_classes=3
    )  # fmt: skip
    assert {k: ballot.guesses.tolist() for k, ballot in found.items()} == {1: [2], 3: [0]}
    assert {k: ballot.ranks.tolist() for k, ballot in found.items()} == {1: [3], 3: [0]}


def test_equal_votes_are_a_guess_of_the_lowest_class() -> None:
    found = count_votes(
        np.zeros((1, 2), np.float32), np.array([[4, 1]]), np.array([4]),
        weigh=by_similarity, k=(2,), n_classes=6,
    )  # fmt: skip
    assert (found[2].guesses.tolist(), found[2].ranks.tolist()) == ([1], [1])


def test_many_classes_have_no_confusions(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.arange(4)
    assert "confusion" in class_details(labels, labels)
    monkeypatch.setattr(votes, "CONFUSION_CLASSES", 3)
    assert set(class_details(labels, labels)) == {"accuracy_by_class"}
