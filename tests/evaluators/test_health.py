from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import skew

from ssl_zoo.errors import UserError
from ssl_zoo.evaluators import health as module
from ssl_zoo.evaluators.base import Features, Scores
from ssl_zoo.evaluators.health import Health, alignment, hubness, occurrences, ranks_of, uniformity

Floats = NDArray[np.float32]


def noise(n: int = 60, d: int = 8, *, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def axes(n: int) -> Floats:
    return np.eye(n, dtype=np.float32)


def unit(values: Floats) -> NDArray[np.float64]:
    exact = values.astype(np.float64)
    found: NDArray[np.float64] = exact / np.linalg.norm(exact, axis=1, keepdims=True)
    return found


def score(train: Features, test: Features, *, seed: int = 0, **settings: Any) -> Scores:
    return Health(Health.Config(**settings)).evaluate(train, test, seed=seed)


def test_orthogonal_features_have_full_rank() -> None:
    found = ranks_of(3 * axes(8))
    assert found["rankme"] == pytest.approx(8)
    assert found["effective_rank_centred"] == pytest.approx(7)  # 8 points span 7 dimensions


def test_a_large_mean_hides_the_rank_until_it_is_subtracted() -> None:
    values = noise(200) + 1000
    found = ranks_of(values)
    assert found["rankme"] < 1.5
    assert found["effective_rank_centred"] > 7.5


def test_ranks_are_those_of_singular_values() -> None:
    values = (noise() * np.arange(1, 9)).astype(np.float32)
    singular = np.linalg.svd(values.astype(np.float64), compute_uv=False)
    shares = singular / singular.sum()
    expected = np.exp(-(shares * np.log(shares)).sum())
    assert ranks_of(values)["rankme"] == pytest.approx(expected, rel=1e-5)


def test_uniformity_is_the_mean_over_all_pairs() -> None:
    values = noise()
    points = unit(values)
    pairs = [
        np.exp(-2 * np.square(points[i] - points[j]).sum()) for i in range(60) for j in range(i)
    ]
    assert uniformity(values, t=2) == pytest.approx(np.log(np.mean(pairs)), abs=1e-5)


def test_uniformity_of_orthogonal_features_is_known() -> None:
    assert uniformity(axes(8), t=2) == pytest.approx(-4)  # all distances are the root of 2
    assert uniformity(axes(8), t=0.5) == pytest.approx(-1)


def test_collapsed_features_are_least_uniform() -> None:
    assert uniformity(np.ones((30, 4), np.float32), t=2) == pytest.approx(0, abs=1e-6)


def test_uniformity_does_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = uniformity(noise(), t=2)
    monkeypatch.setattr(module, "PAIR_NUMBERS", 7 * 60)
    assert uniformity(noise(), t=2) == pytest.approx(expected, rel=1e-12)


def test_a_feature_of_zeros_is_at_distance_1_from_all_others() -> None:
    values = np.array([[0, 0], [2, 0]], np.float32)
    assert uniformity(values, t=2) == pytest.approx(-2)


def test_alignment_is_the_mean_over_pairs_of_a_class() -> None:
    values, labels = noise(), np.arange(60) % 7
    points = unit(values)
    pairs = [
        np.square(points[i] - points[j]).sum()
        for i in range(60)
        for j in range(i)
        if labels[i] == labels[j]
    ]
    assert alignment(values, labels)["alignment"] == pytest.approx(np.mean(pairs))


def test_opposite_features_of_a_class_are_worst_aligned() -> None:
    values = np.array([[5, 0], [-1, 0]], np.float32)
    assert alignment(values, np.array([3, 3])) == {"alignment": 4.0}


def test_images_of_no_class_are_left_out_of_alignment() -> None:
    values = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    assert alignment(values, np.array([0, 0, -1])) == {"alignment": 0.0}


def test_no_two_images_of_a_class_have_no_alignment() -> None:
    assert alignment(noise(3), np.array([0, 1, 2])) == {}


def test_occurrences_count_neighbours_without_the_feature_itself() -> None:
    values = noise()
    cosines = unit(values) @ unit(values).T
    np.fill_diagonal(cosines, -np.inf)
    ids = np.argsort(-cosines, axis=1, kind="stable")[:, :10]
    np.testing.assert_array_equal(
        occurrences(values, k=10), np.bincount(ids.ravel(), minlength=60)
    )


def test_hubness_is_the_skewness_of_occurrences() -> None:
    values = noise()
    assert hubness(values, k=5) == pytest.approx(skew(occurrences(values, k=5)))


def test_a_ring_has_no_hubs() -> None:
    angles = np.arange(40) * 2 * np.pi / 40
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    ring = np.concatenate([ring, np.zeros_like(ring)], axis=1)
    assert abs(hubness(ring, k=2)) < 0.5


def test_the_middle_of_a_star_is_a_hub() -> None:
    values = np.concatenate([axes(30), np.ones((1, 30), np.float32)])
    counts = occurrences(values, k=1)
    assert counts[-1] == 30
    assert hubness(values, k=1) > 5


def test_of_many_equal_features_each_has_k_neighbours() -> None:
    counts = occurrences(np.ones((40, 4), np.float32), k=5)
    assert counts.sum() == 40 * 5
    assert counts[:5].min() >= 39  # ties go to the lowest index


def test_labels_are_not_needed() -> None:
    test = Features(noise())
    names = {"rankme", "effective_rank_centred", "feature_spread", "uniformity", "hubness"}
    assert set(score(test, test).values) == names
    labelled = Features(noise(), np.arange(60) % 3)
    assert set(score(test, labelled).values) == {*names, "alignment"}


def test_images_of_several_classes_have_no_alignment() -> None:
    test = Features(noise(), np.ones((60, 3), np.int64))
    assert "alignment" not in score(test, test).values


def test_the_split_is_a_choice_and_part_of_the_protocol() -> None:
    train, test = Features(axes(30)), Features(np.ones((30, 30), np.float32))
    assert score(train, test).values["rankme"] == pytest.approx(1)
    other = score(train, test, split="train")
    assert other.values["rankme"] == pytest.approx(30)
    assert other.protocol["digest"] != score(train, test).protocol["digest"]


def test_samples_are_drawn_by_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    original = module.uniformity

    def watch(values: Floats, *, t: float) -> float:
        sizes.append(len(values))
        return original(values, t=t)

    monkeypatch.setattr(module, "uniformity", watch)
    test = Features(noise(100))
    first = score(test, test, pair_sample=30, seed=1).values
    assert sizes == [30]
    assert score(test, test, pair_sample=30, seed=1).values == first
    assert score(test, test, pair_sample=30, seed=2).values != first


def test_no_more_images_than_neighbours_are_refused() -> None:
    test = Features(noise(10))
    with pytest.raises(UserError, match="health needs more than k=10 images for hubness"):
        score(test, test)
    assert score(test, test, k=9)


def test_features_that_are_not_finite_are_refused() -> None:
    values = noise()
    values[3, 2] = np.nan
    with pytest.raises(UserError, match="1 of 60 test features .*NaN"):
        score(Features(noise()), Features(values))


def test_features_of_zeros_have_finite_scores() -> None:
    test = Features(np.zeros((30, 4), np.float32), np.arange(30) % 3)
    values = score(test, test).values
    assert all(np.isfinite(value) for value in values.values())
    assert (values["rankme"], values["uniformity"], values["alignment"]) == (0, 0, 0)
