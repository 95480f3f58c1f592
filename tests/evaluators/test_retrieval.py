from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from ssl_zoo.errors import UserError
from ssl_zoo.evaluators import retrieval as module
from ssl_zoo.evaluators.base import Features, Scores
from ssl_zoo.evaluators.knn.evaluator import Knn
from ssl_zoo.evaluators.retrieval import Retrieval, judge, rankings

Floats = NDArray[np.float32]


def noise(n: int, seed: int, *, n_classes: int = 4, d: int = 6) -> Features:
    """Classes that overlap; labels are no neighbouring numbers."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, n_classes, n)
    values = np.eye(d)[labels] + generator.standard_normal((n, d))
    return Features(values.astype(np.float32), 10 * labels + 3)


def ties(n: int, seed: int) -> Features:
    """Features along three axes, so that most cosines are equal exactly."""
    generator = np.random.default_rng(seed)
    values = np.eye(3, dtype=np.float32)[generator.integers(0, 3, n)]
    return Features(values * generator.integers(1, 5, (n, 1)).astype(np.float32), np.arange(n) % 4)


def score(train: Features, test: Features, *, seed: int = 0, **settings: Any) -> Scores:
    return Retrieval(Retrieval.Config(**{"n_resamples": 100, **settings})).evaluate(
        train, test, seed=seed
    )


def reference(database: Features, test: Features, *, within: bool, k: tuple[int, ...]) -> Any:
    """Scores by loops in float64."""
    assert database.labels is not None
    assert test.labels is not None
    found: dict[str, list[float]] = {}
    for query, value in enumerate(test.values.astype(np.float64)):
        ranked = []
        for index, other in enumerate(database.values.astype(np.float64)):
            if not (within and index == query):
                cosine = value @ other / (np.linalg.norm(value) * np.linalg.norm(other))
                ranked.append((-round(cosine, 12), index))
        right = [database.labels[index] == test.labels[query] for _, index in sorted(ranked)]
        n = sum(right)
        precisions = [sum(right[: i + 1]) / (i + 1) for i in range(len(right)) if right[i]]
        first = [sum(right[: i + 1]) / (i + 1) for i in range(n) if right[i]]
        one = {
            "map": sum(precisions) / n if n else 0.0,
            "map@r": sum(first) / n if n else 0.0,
            "r_precision": sum(right[:n]) / n if n else 0.0,
            **{f"recall@{count}": float(any(right[:count])) for count in k},
        }
        for name, number in one.items():
            found.setdefault(name, []).append(number)
    return found


@pytest.mark.parametrize("make", [noise, ties])
@pytest.mark.parametrize("database", ["train", "test"])
def test_scores_are_those_of_loops(make: Any, database: str) -> None:
    train, test = make(50, 0), make(30, 1)
    found = score(train, test, database=database, k=(1, 3, 7))
    within = database == "test"
    expected = reference(test if within else train, test, within=within, k=(1, 3, 7))
    assert set(found.values) == set(expected)
    for name, numbers in expected.items():
        np.testing.assert_allclose(found.outcomes[name], numbers, atol=1e-6, err_msg=name)
        assert found.values[name] == pytest.approx(100 * np.mean(numbers), abs=1e-4)


def test_map_is_the_average_precision_of_scikit_learn() -> None:
    train, test = noise(60, 0), noise(10, 1)
    found = score(train, test).outcomes["map"]
    unit = [
        one.values / np.linalg.norm(one.values, axis=1, keepdims=True) for one in (train, test)
    ]
    assert train.labels is not None
    assert test.labels is not None
    expected = [
        average_precision_score(train.labels == label, unit[0] @ query)
        for query, label in zip(unit[1], test.labels, strict=True)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_ranking_is_judged_as_by_hand() -> None:
    found = judge(np.array([True, False, True, False, False, True]), (1, 2))
    assert found.shares == pytest.approx(
        {"map": (1 + 2 / 3 + 3 / 6) / 3, "map@r": (1 + 2 / 3) / 3, "r_precision": 2 / 3}
    )
    assert found.hits == [True, True]


def test_recall_asks_for_one_hit_in_the_first_places() -> None:
    relevant = np.array([False, False, True, True])
    assert judge(relevant, (1, 2, 3, 100)).hits == [False, False, True, True]


def test_equal_cosines_are_ranked_by_index() -> None:
    values = np.array([[0, 1], [2, 0], [0, 3], [1, 0], [0, 1]], np.float32)
    ((ids, query),) = rankings(values, values[:1], without_self=False, memory_mb=16)
    assert (ids.tolist(), query) == ([0, 2, 4, 1, 3], 0)


def test_negative_cosines_come_last() -> None:
    values = np.array([[-1, 0], [-1, -1], [0, -0.0], [1, 1], [1, 0]], np.float32)
    ((ids, _),) = rankings(values, values[4:], without_self=False, memory_mb=16)
    assert ids.tolist() == [4, 3, 2, 1, 0]


def test_a_query_is_left_out_of_its_own_ranking() -> None:
    values = np.ones((4, 2), np.float32)
    found = [ids.tolist() for ids, _ in rankings(values, values, without_self=True, memory_mb=16)]
    assert found == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]


def test_little_memory_and_many_parts_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = noise(500, 0), noise(40, 1)
    expected = score(train, test)
    monkeypatch.setattr(module, "_HELD_BYTES", 7 * 4 * 6)
    monkeypatch.setattr(module, "_BYTES_PER_PAIR", 10_000)  # 3 queries at a time
    found = score(train, test, memory_mb=16)
    np.testing.assert_allclose(found.outcomes["map"], expected.outcomes["map"], atol=1e-6)
    assert found.protocol == expected.protocol


def test_perfect_features_find_everything() -> None:
    test = Features(np.eye(4, dtype=np.float32)[np.arange(20) % 4], np.arange(20) % 4)
    assert set(score(test, test).values.values()) == {100.0}


def test_a_class_that_the_database_lacks_scores_0() -> None:
    train = Features(np.eye(4, dtype=np.float32), np.array([0, 1, 2, 3]))
    test = Features(np.eye(4, dtype=np.float32), np.array([0, 1, 2, 9]))
    values = score(train, test).values
    assert values["map"] == values["recall@100"] == 75


def test_recall_beyond_the_database_takes_all_of_it() -> None:
    train, test = noise(8, 0, n_classes=2), noise(20, 1, n_classes=2)
    assert score(train, test, k=(100,)).values["recall@100"] == 100


def test_shares_come_as_float32_and_hits_as_booleans() -> None:
    outcomes = score(noise(30, 0), noise(20, 1)).outcomes
    assert outcomes["map"].dtype == np.float32
    assert outcomes["recall@1"].dtype == np.bool_
    assert {len(each) for each in outcomes.values()} == {20}


def test_intervals_hold_the_scores() -> None:
    found = score(noise(30, 0), noise(50, 1))
    for name, value in found.values.items():
        low, high = found.intervals[name]
        assert low <= value <= high


def test_digest_depends_on_settings_and_not_on_memory() -> None:
    train, test = noise(30, 0), noise(20, 1)
    digest = score(train, test).protocol["digest"]
    assert score(test, train, memory_mb=999, n_resamples=200).protocol["digest"] == digest
    assert score(train, test, database="test").protocol["digest"] != digest
    assert score(train, test, k=(1,)).protocol["digest"] != digest


def test_one_image_cannot_search_itself() -> None:
    one = Features(np.ones((1, 2), np.float32), np.array([0]))
    with pytest.raises(UserError, match="needs 2 test images, but there is 1"):
        score(noise(5, 0, d=2, n_classes=2), one, database="test")


def test_labels_are_needed() -> None:
    train, test = noise(30, 0), noise(20, 1)
    with pytest.raises(UserError, match="retrieval needs labels, but the train split has none"):
        score(Features(train.values), test)


def test_the_first_place_is_the_nearest_neighbour() -> None:
    train, test = noise(200, 0), noise(100, 1)
    knn = Knn(Knn.Config(k=(1,), n_resamples=100)).evaluate(train, test)
    assert score(train, test).values["recall@1"] == knn.values["top1@k=1"]
