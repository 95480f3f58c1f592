"""kNN against a slow float64 version that follows the definition of the protocols."""

import logging
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from ssl_zoo.errors import UserError
from ssl_zoo.evaluators.base import EVALUATORS, Features, Scores
from ssl_zoo.evaluators.knn import evaluator as knn_module
from ssl_zoo.evaluators.knn import votes
from ssl_zoo.evaluators.knn.evaluator import Knn
from ssl_zoo.evaluators.knn.protocols import PROTOCOLS
from ssl_zoo.evaluators.search import exact


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


def votes_of(protocol: str, similarities: list[float], temperature: float) -> list[float]:
    """Returns the votes of neighbours in falling order as the authors' code has them."""
    if protocol == "nearest":
        return [1.0] * len(similarities)
    if protocol == "spt":
        return [1 / (-similarity + temperature) for similarity in similarities]
    # Any common factor is right, and this one keeps the largest finite.
    return [np.exp((one - similarities[0]) / temperature) for one in similarities]


def by_definition(
    train: Features,
    test: Features,
    *,
    k: int,
    temperature: float,
    top: int,
    protocol: str = "dino",
) -> float:
    """Returns the accuracy in percent by loops over images, neighbours and classes, in float64."""
    assert train.labels is not None
    assert test.labels is not None
    hits = 0
    rows = train.values.astype(np.float64)
    for value, truth in zip(test.values.astype(np.float64), test.labels, strict=True):
        if protocol in ("spt", "nearest"):
            similarities = [-float(np.sqrt(((row - value) ** 2).sum())) for row in rows]
        elif protocol == "vissl":
            similarities = [float(row @ value) for row in rows]
        else:
            norms = [np.linalg.norm(row) * np.linalg.norm(value) or 1.0 for row in rows]
            similarities = [float(row @ value / n) for row, n in zip(rows, norms, strict=True)]
        near = sorted((round(-one, 12), i) for i, one in enumerate(similarities))[:k]
        votes: dict[int, float] = {}
        weights = votes_of(protocol, [-distance for distance, _ in near], temperature)
        for weight, (_, i) in zip(weights, near, strict=True):
            label = int(train.labels[i])
            votes[label] = votes.get(label, 0.0) + weight
        ranking = sorted(votes, key=lambda label: (-float(f"{votes[label]:.11e}"), label))
        hits += int(truth) in ranking[:top]
    return 100 * hits / len(test)


def score(train: Features, test: Features, **settings: Any) -> Scores:
    return Knn(Knn.Config(**settings)).evaluate(train, test)


def assert_same(a: Scores, b: Scores) -> None:
    assert (a.values, a.intervals, a.details) == (b.values, b.intervals, b.details)
    np.testing.assert_equal(a.outcomes, b.outcomes)


# What papers and their code say, written here once more.
SETTINGS: dict[str, tuple[list[int], float]] = {
    "dino": ([10, 20, 100, 200], 0.07),
    "dinov2": ([10, 20, 100, 200], 0.07),
    "instdisc": ([200], 0.1),
    "solo": ([20], 0.07),
    "vissl": ([200], 0.1),
    "spt": ([5], 0.07),
    "nearest": ([1], 1.0),
}


def expected(train: Features, test: Features, protocol: str) -> dict[str, float]:
    assert train.labels is not None
    ks, temperature = SETTINGS[protocol]
    return {
        f"top{top}@k={k}": by_definition(
            train, test, k=k, temperature=temperature, top=top, protocol=protocol
        )
        for top in ((1, 5) if len(set(train.labels)) > 5 else (1,))
        for k in ks
        if k >= top
    }


def test_every_protocol_is_tested_here() -> None:
    assert set(SETTINGS) == set(PROTOCOLS)


@pytest.mark.parametrize("protocol", SETTINGS)
def test_all_scores_follow_the_definition(protocol: str) -> None:
    train, test = blobs(400, 0), blobs(60, 1)
    scores = score(train, test, protocol=protocol)
    assert scores.values == pytest.approx(expected(train, test, protocol), abs=1e-9)
    assert 30 < scores.values[scores.headline] < 90  # neither trivial nor hopeless


@pytest.mark.parametrize("protocol", SETTINGS)
def test_ties_follow_the_definition_of_every_protocol(protocol: str) -> None:
    train, test = signs(300, 0), signs(60, 1)
    scores = score(train, test, protocol=protocol)
    assert scores.values == pytest.approx(expected(train, test, protocol), abs=1e-9)


@pytest.mark.parametrize("protocol", SETTINGS)
def test_edges_follow_the_definition_of_every_protocol(protocol: str) -> None:
    """Fewer features than neighbours, duplicates, a zero, and classes that only one split has."""
    train, test = signs(30, 0, n_classes=4), signs(20, 1, n_classes=6)
    assert test.labels is not None
    values = train.values.copy()
    values[10:20] = values[:10]
    values[7] = 0
    train = Features(values, train.labels)
    test = Features(
        np.concatenate([test.values, values[5:9]]), np.append(test.labels, [0, 1, 2, 9])
    )
    scores = score(train, test, protocol=protocol)
    assert scores.values == pytest.approx(expected(train, test, protocol), abs=1e-9)


def test_ties_follow_the_definition() -> None:
    train, test = signs(300, 0), signs(60, 1)
    scores = score(train, test, k=[1, 2, 3, 10, 50], temperature=0.5)
    for k in (1, 2, 3, 10, 50):
        wanted = by_definition(train, test, k=k, temperature=0.5, top=1)
        assert scores.values[f"top1@k={k}"] == pytest.approx(wanted)


@pytest.mark.parametrize("protocol", ["vissl", "spt", "nearest"])
def test_protocols_without_normalisation_see_the_scale(protocol: str) -> None:
    train, test = blobs(300, 0), blobs(50, 1)
    scales = np.random.default_rng(5).uniform(0.2, 5, (300, 1)).astype(np.float32)
    scaled = Features(train.values * scales, train.labels)
    assert (
        score(scaled, test, protocol=protocol).values
        != score(train, test, protocol=protocol).values
    )


def test_dot_products_of_any_size_have_finite_votes() -> None:
    train, test = blobs(100, 0), blobs(40, 1)
    large = Features(train.values * 1e9, train.labels), Features(test.values * 1e9, test.labels)
    votes_of_the_first = score(*large, protocol="vissl", k=[1]).values["top1@k=1"]
    assert score(*large, protocol="vissl", k=[30]).values["top1@k=30"] == votes_of_the_first


def test_a_neighbour_has_a_vote_however_far_it_is() -> None:
    values = np.array([[100, 0], [0, 1], [0, 2]], dtype=np.float32)
    train = Features(values, np.array([1, 2, 3]))
    test = Features(values[:1], np.array([2]))
    found = score(train, test, protocol="vissl", k=[3])
    assert np.exp((0.0 - 100**2) / 0.1) == 0
    ballots = Knn(Knn.Config(protocol="vissl", k=3))._vote(
        np.array([[1e4, 0, 0]], dtype=np.float32), np.array([[0, 1, 2]]), np.array([1]), 3
    )
    assert found.values["top1@k=3"] == 0
    assert ballots[3, 0.1].ranks.tolist() == [1]


@pytest.mark.parametrize("protocol", ["vissl", "spt", "nearest"])
def test_features_whose_products_overflow_are_refused(protocol: str) -> None:
    train, test = blobs(100, 0), blobs(40, 1)
    large = Features(train.values * 1e19, train.labels), Features(test.values * 1e19, test.labels)
    with pytest.raises(UserError, match="features .*(so long|norms).*'dino'"):
        score(*large, protocol=protocol)


def test_all_temperatures_and_numbers_of_neighbours_come_from_one_search(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train, test = blobs(200, 0), blobs(40, 1)
    searches = []

    def counted(*args: Any, **settings: Any) -> Any:
        searches.append(settings["k"])
        return exact.nearest(*args, **settings)

    monkeypatch.setattr(knn_module, "nearest", counted)
    found = score(train, test, k=[3, 30], temperature=[0.5, 0.02])
    assert searches == [30]
    assert found.headline == "top1@k=30,t=0.02"
    for k in (3, 30):
        for temperature in (0.02, 0.5):
            name = f"top1@k={k},t={temperature}"
            wanted = by_definition(train, test, k=k, temperature=temperature, top=1)
            assert found.values[name] == pytest.approx(wanted)


def test_one_number_of_neighbours_needs_no_list() -> None:
    assert Knn.Config(k=7).k == (7,)


def test_equal_votes_go_to_the_lowest_class() -> None:
    train = Features(np.ones((4, 2), np.float32), np.array([7, 3, 7, 3]))
    for label, expected in ((3, 100.0), (7, 0.0)):
        test = Features(np.ones((1, 2), np.float32), np.array([label]))
        assert score(train, test, k=[4]).values == {"top1@k=4": expected}


def test_a_class_without_a_vote_is_never_predicted() -> None:
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


def test_duplicates_of_test_features_are_found_regardless_of_labels() -> None:
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
    monkeypatch.setattr(votes, "VOTE_NUMBERS", 30)
    assert_same(score(train, test), whole)


def test_intervals_hold_the_scores_and_depend_on_the_seed_only() -> None:
    train, test = blobs(300, 0), blobs(100, 1)
    evaluator = Knn(Knn.Config())
    first, again, other = (evaluator.evaluate(train, test, seed=seed) for seed in (0, 0, 1))
    assert_same(first, again)
    assert first.values == other.values
    assert first.intervals.keys() == first.values.keys()
    for name, (low, high) in first.intervals.items():
        assert low <= first.values[name] <= high


def test_every_score_comes_with_the_hits_it_is_the_mean_of() -> None:
    scores = score(blobs(300, 0), blobs(77, 1))
    assert scores.outcomes.keys() == scores.values.keys()
    for name, hits in scores.outcomes.items():
        assert hits.dtype == np.bool_
        assert hits.shape == (77,)
        assert 100 * hits.mean() == pytest.approx(scores.values[name])


def test_details_have_classes_as_the_data_set_numbers_them() -> None:
    train = Features(np.eye(4, dtype=np.float32), np.array([30, 10, 20, 20]))
    values = np.eye(4, dtype=np.float32)[[0, 0, 1, 2, 3]]
    details = score(train, Features(values, np.array([30, 10, 10, 20, 77])), k=[1]).details
    assert details == {
        "accuracy_by_class": {"10": 50.0, "20": 100.0, "30": 100.0, "77": 0.0},
        "confusion": [[10, 10, 1], [10, 30, 1], [20, 20, 1], [30, 30, 1], [77, 20, 1]],
    }


def test_protocol_and_headline_are_in_the_scores() -> None:
    scores = score(blobs(300, 0), blobs(20, 1))
    assert scores.headline == "top1@k=20"
    assert scores.protocol["name"] == "dino"
    assert scores.protocol["temperature"] == 0.07
    assert len(scores.protocol["digest"]) == 12


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"metric": "cosine", "normalise": "none"}, "metric 'dot' or 'euclidean'"),
        ({"metric": "dot", "normalise": "l2"}, "metric 'cosine'"),
        ({"protocol": "spt", "metric": "cosine"}, "metric 'euclidean'"),
        ({"protocol": "nearest", "temperature": 0.1}, "equal votes .*temperature"),
        ({"temperature": [0.1, 0.1]}, "a number twice"),
        ({"temperature": []}, "list is empty"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        EVALUATORS.config({"name": "knn", **settings})


@pytest.mark.parametrize(
    ("protocol", "interpolation"),
    [("dino", "bicubic"), ("dinov2", "bicubic"), ("solo", "bilinear")],
)
def test_images_are_resized_as_the_authors_do(protocol: str, interpolation: str) -> None:
    assert Knn(Knn.Config(protocol=protocol)).interpolation == interpolation


def test_text_names_the_protocol() -> None:
    config = EVALUATORS.config("knn:instdisc")
    assert isinstance(config, Knn.Config)
    assert config.protocol == "instdisc"


def test_numbers_of_neighbours_must_differ() -> None:
    with pytest.raises(ValidationError, match="a number twice"):
        Knn.Config(k=(5, 5))


def test_labels_are_required_for_both_splits() -> None:
    good = blobs(20, 0)
    with pytest.raises(UserError, match="needs labels, but the train split has none"):
        score(Features(good.values), good)
    with pytest.raises(UserError, match="needs labels, but the test split has none"):
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
    with pytest.raises(UserError, match="2 of 20 test features .*NaN or infinite"):
        score(good, Features(values, good.labels))
