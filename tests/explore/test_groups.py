"""Groups of features: by k-means and by prototypes, and what labels say of them."""

import numpy as np
import pytest
from numpy.typing import NDArray

from ssl_zoo.evaluators.search.exact import unit_rows
from ssl_zoo.explore.groups import Groups, Majority, group, group_by_scores, majority


def groups_of(points: NDArray[np.float64], n_clusters: int) -> Groups:
    unit = unit_rows(points.astype(np.float32))
    return group(unit, n_clusters=n_clusters, n_iterations=10, n_restarts=2, seed=0)


@pytest.mark.parametrize("points", [np.zeros((9, 4)), np.ones((9, 4)), np.eye(4)[[0] * 8 + [1]]])
def test_zero_and_equal_features_are_clustered(points: NDArray[np.float64]) -> None:
    found = groups_of(points, 5)
    assert found.sizes.sum() == 9
    assert [len(members) for members in found.members] == found.sizes.tolist()
    assert all(np.isfinite(value) for value in found.scores().values())


def test_prototypes_are_clusters_of_the_images_they_score_highest() -> None:
    points = unit_rows(np.random.default_rng(0).standard_normal((40, 5)).astype(np.float32))
    scores = np.random.default_rng(1).random((40, 6)).astype(np.float32)
    scores[:, 2] = -1
    found = group_by_scores(points, scores)
    np.testing.assert_array_equal(found.numbers[found.clusters], scores.argmax(axis=1))
    np.testing.assert_array_equal(found.cosines, scores.max(axis=1))
    assert found.sizes.tolist() == sorted(found.sizes, reverse=True)
    assert (found.numbers[-1], found.sizes[-1]) == (2, 0)
    for place, members in enumerate(found.members[:-1]):
        mean = points[members].mean(axis=0, dtype=np.float64)
        np.testing.assert_allclose(found.centroids[place], mean / np.linalg.norm(mean), atol=1e-6)


def test_members_come_by_similarity_then_index() -> None:
    found = Groups(
        points=np.zeros((6, 2), np.float32),
        clusters=np.array([0, 1, 0, 0, 1, 0]),
        cosines=np.array([0.5, 0.1, 0.9, 0.5, 0.2, 0.5], np.float32),
        centroids=np.zeros((3, 2), np.float32),
        numbers=np.arange(3),
    )
    assert [members.tolist() for members in found.members] == [[2, 0, 3, 5], [4, 1], []]


def test_images_without_a_label_have_no_part_in_agreement() -> None:
    points = np.eye(4)[[0, 0, 1, 1, 2, 2]]
    found = Groups(
        points.astype(np.float32),
        np.array([0, 0, 1, 1, 1, 0]),
        np.ones(6, np.float32),
        np.eye(2, 4, dtype=np.float32),
        np.arange(2),
    )
    values = found.agreement(np.array([3, 3, 7, 7, -1, -1]))
    assert values["nmi"] == values["accuracy"] == pytest.approx(100)
    assert majority(np.array([-1, 1, 1, 0]), ["a", "b"]) == Majority("b", 2 / 3)
    assert majority(np.array([-1]), ["a"]) is None
