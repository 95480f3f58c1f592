from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ssl_zoo.errors import UserError
from ssl_zoo.evaluators.base import Features, Scores
from ssl_zoo.evaluators.clusters.clustering import agreement
from ssl_zoo.evaluators.clusters.prototype_clusters import PrototypeClusters


def score(scores: NDArray[Any], labels: NDArray[np.int64] | None) -> Scores:
    features = Features(scores.astype(np.float32), labels)
    return PrototypeClusters(PrototypeClusters.Config()).evaluate(features, features)


def test_an_image_is_in_the_cluster_of_largest_score() -> None:
    generator = np.random.default_rng(0)
    labels, scores = generator.integers(0, 3, 60), generator.random((60, 7))
    found = score(scores, labels)
    clusters = np.array([max(range(7), key=row.__getitem__) for row in scores])
    expected = agreement(labels, clusters, n_clusters=7)
    assert {name: found.values[name] for name in expected} == expected
    assert found.protocol["n_clusters"] == 7


def test_unused_prototypes_are_reported() -> None:
    values = score(np.eye(8)[[0, 0, 1, 1]], np.array([4, 4, 5, 5])).values
    assert values["used"] == 25.0
    assert values["balance"] == pytest.approx(100 / 3)
    assert values["nmi"] == pytest.approx(100)


def test_as_many_prototypes_as_classes_have_an_accuracy() -> None:
    assert score(np.eye(2)[[1, 1, 0, 1]], np.array([0, 0, 1, 1])).values["accuracy"] == 75.0
    assert "accuracy" not in score(np.eye(3)[[1, 1, 0, 1]], np.array([0, 0, 1, 1])).values


def test_details_tell_the_sizes_largest_first() -> None:
    assert score(np.eye(3)[[1, 1, 0, 1]], np.array([0, 0, 1, 1])).details == {"sizes": [3, 1, 0]}


def test_the_digest_depends_on_no_data() -> None:
    a = score(np.eye(3)[[1, 1, 0]], np.array([0, 0, 1])).protocol["digest"]
    assert score(np.eye(5)[[1, 4, 0]], np.array([1, 0, 1])).protocol["digest"] == a


def test_scores_without_labels_or_finite_values_are_refused() -> None:
    with pytest.raises(UserError, match="prototypes needs labels"):
        score(np.eye(3), None)
    with pytest.raises(UserError, match="3 of 3 train features .*NaN"):
        score(np.full((3, 2), np.nan), np.array([0, 1, 1]))


def test_a_single_prototype_is_refused() -> None:
    values = np.random.default_rng(0).standard_normal((12, 1)).astype(np.float32)
    features = Features(values, np.arange(12) % 3)
    with pytest.raises(UserError, match="one prototype"):
        PrototypeClusters(PrototypeClusters.Config()).evaluate(features, features)
