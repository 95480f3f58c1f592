import numpy as np
import pytest
import torch

from ssl_zoo.evaluators.scoring import by_class, described, in_percent, places, ranks, stratified


def test_ranks_count_the_classes_ahead() -> None:
    scores = torch.tensor([[0.1, 0.5, 0.4], [0.1, 0.5, 0.4], [0.1, 0.5, 0.4]])
    np.testing.assert_array_equal(ranks(scores, np.array([0, 1, 2])), [2, 0, 1])


def test_of_equal_scores_the_lower_class_is_ahead() -> None:
    np.testing.assert_array_equal(ranks(torch.ones(3, 3), np.array([0, 1, 2])), [0, 1, 2])


def test_a_class_that_is_not_known_is_behind_all() -> None:
    np.testing.assert_array_equal(ranks(torch.ones(1, 3), np.array([-1])), [3])


def test_places_are_among_the_classes() -> None:
    np.testing.assert_array_equal(
        places(np.array([2, 5, 9]), np.array([9, 2, 5, 3, 99])), [2, 0, 1, -1, -1]
    )


def test_equal_settings_share_a_digest_and_others_do_not() -> None:
    first = described("one", {"a": 1, "b": 2})
    assert described("one", {"b": 2, "a": 1})["digest"] == first["digest"]
    assert described("one", {"a": 1, "b": 3})["digest"] != first["digest"]
    assert first["evaluator"] == "one"


def test_means_are_in_percent_with_an_interval() -> None:
    values, intervals = in_percent(
        {"top1": np.array([True, False, True, True])}, seed=0, n_resamples=500
    )
    assert values == {"top1": 75.0}
    low, high = intervals["top1"]
    assert 0 <= low < 75 < high <= 100


def test_float32_outcomes_are_summed_in_float64() -> None:
    outcomes = np.full(3_000_001, 0.1, np.float32)
    values, _ = in_percent({"ap": outcomes}, seed=0, n_resamples=100)
    assert values["ap"] == pytest.approx(100 * float(np.float32(0.1)), rel=1e-12)


def test_hits_by_class_are_of_that_class() -> None:
    hits, labels = np.array([True, False, True]), np.array([3, 3, 7])
    assert by_class(hits, labels) == {"3": 50.0, "7": 100.0}


def test_each_class_is_split_in_proportion() -> None:
    labels = np.repeat([0, 1, 2], [50, 10, 1])
    first, second = stratified(labels, 0.2, seed=0)
    assert np.bincount(labels[second], minlength=3).tolist() == [10, 2, 0]
    np.testing.assert_array_equal(np.sort(np.concatenate([first, second])), np.arange(61))


def test_the_split_depends_on_the_seed_alone() -> None:
    labels = np.arange(40) % 4
    np.testing.assert_array_equal(stratified(labels, 0.5, seed=1), stratified(labels, 0.5, seed=1))
    assert not np.array_equal(stratified(labels, 0.5, seed=1), stratified(labels, 0.5, seed=2))


def test_one_image_of_a_class_stays() -> None:
    labels = np.array([0, 0, 1, 1])
    first, second = stratified(labels, 0.99, seed=0)
    assert sorted(labels[first]) == [0, 1]
    assert sorted(labels[second]) == [0, 1]
