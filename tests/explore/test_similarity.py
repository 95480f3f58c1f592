"""Near-duplicates, outliers, diverse subsets and neighbours, against brute force and scikit-learn."""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from ssl_zoo.errors import UserError
from ssl_zoo.explore import similarity
from ssl_zoo.explore.similarity import diverse_subset, near_duplicates, neighbours, outliers


def random_features(n: int = 60, d: int = 5, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def cosines(features: NDArray[np.float32]) -> NDArray[np.float64]:
    unit = features.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    found: NDArray[np.float64] = unit @ unit.T
    return found


def linked(table: NDArray[np.float64], above: float) -> set[frozenset[int]]:
    """Returns the groups of rows that are linked, by repeated merging."""
    groups = [{place} for place in range(len(table))]
    for one, other in itertools.combinations(range(len(table)), 2):
        if table[one, other] >= above:
            first = next(group for group in groups if one in group)
            second = next(group for group in groups if other in group)
            if first is not second:
                groups.remove(second)
                first |= second
    return {frozenset(group) for group in groups if len(group) > 1}


@pytest.mark.parametrize("block", [1 << 24, 7 * 60])
def test_groups_of_duplicates_are_linked_by_high_cosines(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(similarity, "BLOCK_NUMBERS", block)
    features = random_features()
    found = near_duplicates(features, above=0.9)
    assert {frozenset(group.index.tolist()) for group in found} == linked(cosines(features), 0.9)
    sizes = [len(group.index) for group in found]
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes) > 2


def test_a_duplicate_has_its_highest_cosine_to_the_group() -> None:
    features = random_features()
    table = cosines(features)
    np.fill_diagonal(table, -1)
    for group in near_duplicates(features, above=0.9):
        assert group.index.tolist() == sorted(group.index.tolist())
        assert group.values[0] == 1
        expected = table[np.ix_(group.index, group.index)].max(axis=1)
        np.testing.assert_allclose(group.values[1:], expected[1:], atol=1e-6)


def test_distinct_images_have_no_duplicates() -> None:
    assert near_duplicates(np.eye(4, dtype=np.float32), above=0.5) == []


def test_a_threshold_that_links_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "MOST_PAIRS", 10)
    with pytest.raises(UserError, match=r"more than 10 pairs of the 60 images .* raise --above"):
        near_duplicates(np.ones((60, 2), dtype=np.float32), above=0.9)


def test_outliers_are_far_from_their_kth_neighbour() -> None:
    features = random_features()
    model = NearestNeighbors(n_neighbors=4, metric="cosine").fit(features)
    expected = model.kneighbors(features)[0][:, 3]  # the first is the image itself
    found = outliers(features, k=3)
    np.testing.assert_allclose(found.values, np.sort(expected)[::-1], atol=1e-6)
    np.testing.assert_allclose(expected[found.index], found.values, atol=1e-6)


def test_too_few_images_for_k_neighbours_are_refused() -> None:
    with pytest.raises(UserError, match="3 images have no 3 neighbours each; lower --k"):
        outliers(random_features(3), k=3)


def test_each_chosen_image_is_the_farthest_from_those_before() -> None:
    features = random_features()
    found = diverse_subset(features, size=10)
    distances = np.sqrt(np.maximum(2 - 2 * cosines(features), 0))
    for place in range(1, 10):
        left = distances[found.index[:place]].min(axis=0)
        assert found.index[place] == left.argmax()
        assert found.values[place] == pytest.approx(left.max(), abs=1e-5)


def test_the_radius_is_at_most_twice_the_best() -> None:
    features = random_features(12, 3)
    distances = np.sqrt(np.maximum(2 - 2 * cosines(features), 0))
    ours = distances[diverse_subset(features, size=3).index].min(axis=0).max()
    best = min(
        distances[list(centers)].min(axis=0).max()
        for centers in itertools.combinations(range(12), 3)
    )
    assert best <= ours <= 2 * best


def test_a_subset_begins_with_the_smaller_subset() -> None:
    large, small = (diverse_subset(random_features(), size=size) for size in (20, 7))
    assert large.index[:7].tolist() == small.index.tolist()


def test_all_images_are_a_subset_even_if_they_are_equal() -> None:
    found = diverse_subset(np.ones((5, 2), dtype=np.float32), size=5)
    assert sorted(found.index.tolist()) == [0, 1, 2, 3, 4]


def test_a_subset_larger_than_the_set_is_refused() -> None:
    with pytest.raises(UserError, match="61 images cannot be chosen from 60; lower --size"):
        diverse_subset(random_features(), size=61)


def test_neighbours_have_the_highest_cosines_without_the_image_itself() -> None:
    features = random_features()
    row = cosines(features)[7]
    row[7] = -np.inf
    found = neighbours(features, 7, k=4)
    assert found.index.tolist() == np.argsort(-row)[:4].tolist()
    np.testing.assert_allclose(found.values, np.sort(row)[::-1][:4], atol=1e-6)


def test_an_equal_image_is_a_neighbour() -> None:
    features = np.ones((3, 2), dtype=np.float32)
    assert sorted(neighbours(features, 1, k=5).index.tolist()) == [0, 2]
