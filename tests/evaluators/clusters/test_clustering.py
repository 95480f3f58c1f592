from itertools import permutations
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from ssl_zoo.errors import UserError
from ssl_zoo.evaluators.base import EVALUATORS, Features, Scores
from ssl_zoo.evaluators.clusters import clustering as module
from ssl_zoo.evaluators.clusters.clustering import (
    Clustering,
    agreement,
    contingency,
    hungarian_accuracy,
)
from ssl_zoo.evaluators.clusters.spherical import cluster_directions


def separated(n: int, seed: int, *, n_classes: int = 5) -> Features:
    """Classes around orthogonal directions; labels are no neighbouring numbers."""
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    values = 5 * np.eye(8)[labels] + 0.1 * generator.standard_normal((n, 8))
    return Features(values.astype(np.float32), 10 * labels + 3)


def noise(n: int, seed: int, *, n_classes: int = 5) -> Features:
    generator = np.random.default_rng(seed)
    values = generator.standard_normal((n, 8)).astype(np.float32)
    return Features(values, generator.integers(0, n_classes, n))


def score(train: Features, test: Features, *, seed: int = 0, **settings: Any) -> Scores:
    return Clustering(Clustering.Config(**settings)).evaluate(train, test, seed=seed)


@pytest.mark.parametrize("fit", ["test", "train"])
def test_perfect_clusters_score_100(fit: str) -> None:
    scores = score(separated(60, 0), separated(45, 1), fit=fit, n_restarts=20)
    names = {"nmi", "ami", "ari", "purity", "accuracy"}
    assert {name: scores.values[name] for name in names} == pytest.approx(
        dict.fromkeys(names, 100.0)
    )
    assert {scores.values[f"{name}_std"] for name in names} == {0.0}


def test_noise_scores_as_chance_does() -> None:
    values = score(noise(10, 0), noise(1000, 1)).values
    assert abs(values["ari"]) < 1  # 0 on average by construction; so is ami
    assert abs(values["ami"]) < 1
    assert 20 < values["accuracy"] < 30  # a fifth, and the best assignment of the noise


def test_scores_are_those_of_the_definitions() -> None:
    generator = np.random.default_rng(0)
    classes = generator.integers(0, 4, 300)
    clusters = np.where(generator.random(300) < 0.6, classes, generator.integers(0, 4, 300))
    hits = max(np.mean(np.array(order)[clusters] == classes) for order in permutations(range(4)))
    majority = sum(
        np.bincount(classes[clusters == cluster]).max() for cluster in np.unique(clusters)
    )
    expected = {
        "nmi": 100 * metrics.normalized_mutual_info_score(classes, clusters),
        "ami": 100 * metrics.adjusted_mutual_info_score(classes, clusters),
        "ari": 100 * metrics.adjusted_rand_score(classes, clusters),
        "purity": 100 * majority / 300,
        "accuracy": 100 * hits,
    }
    assert agreement(classes, clusters, n_clusters=4) == pytest.approx(expected)


def test_nmi_divides_by_the_mean_of_the_entropies() -> None:
    classes = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    clusters = np.array([0, 0, 1, 1, 2, 2, 3, 3])  # mutual information 1 bit; entropies 1 and 2
    values = agreement(classes, clusters, n_clusters=4)
    assert values["nmi"] == pytest.approx(100 * 2 / 3)
    assert values["purity"] == 100.0


def test_accuracy_needs_as_many_clusters_as_classes() -> None:
    test = separated(60, 0)
    assert "accuracy" in score(test, test).values
    more = score(test, test, over_cluster=2)
    assert "accuracy" not in more.values
    assert more.values["purity"] > 90
    assert more.protocol["n_clusters"] == 10


def test_clusters_beyond_the_classes_count_as_wrong() -> None:
    table = contingency(np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 2, 2]), n_clusters=3)
    np.testing.assert_array_equal(table, [[2, 1, 0], [0, 0, 2]])
    assert hungarian_accuracy(table) == pytest.approx(4 / 5)
    assert hungarian_accuracy(table.T) == pytest.approx(4 / 5)


def test_an_empty_cluster_is_allowed() -> None:
    values = agreement(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 0]), n_clusters=2)
    assert values["accuracy"] == values["purity"] == 50.0
    assert values["nmi"] == values["ari"] == 0.0


def test_collapsed_features_score_as_chance_does() -> None:
    test = Features(np.ones((100, 4), np.float32), np.arange(100) % 4)
    values = score(test, test).values
    assert abs(values["ari"]) < 5
    assert values["accuracy"] <= 40


def test_the_split_that_is_asked_for_is_clustered(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def watch(points: Any, **settings: Any) -> Any:
        seen.append(len(points))
        return cluster_directions(points, **settings)

    monkeypatch.setattr(module, "cluster_directions", watch)
    for fit in ("train", "test"):
        score(noise(700, 0, n_classes=2), noise(50, 1, n_classes=2), fit=fit, n_seeds=1)
    assert seen == [700, 50]


def test_means_and_spreads_are_over_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    test = noise(120, 0)
    singles = []

    def watch(*given: Any, **settings: Any) -> Any:
        singles.append(original(*given, **settings))
        return singles[-1]

    original = module.agreement
    monkeypatch.setattr(module, "agreement", watch)
    values = score(test, test, n_seeds=4).values
    nmi = [single["nmi"] for single in singles]
    assert len(set(nmi)) > 1
    assert values["nmi"] == pytest.approx(np.mean(nmi))
    assert values["nmi_std"] == pytest.approx(np.std(nmi, ddof=1))


def test_one_seed_has_no_spread() -> None:
    test = noise(60, 0)
    assert not [name for name in score(test, test, n_seeds=1).values if name.endswith("_std")]


def test_equal_seeds_give_equal_scores() -> None:
    test = noise(120, 0)
    assert score(test, test, seed=3) == score(test, test, seed=3)
    assert score(test, test, seed=3).values != score(test, test, seed=4).values


def test_digest_depends_on_settings_and_not_on_data() -> None:
    small, large = separated(40, 0), noise(90, 1, n_classes=3)
    digest = score(small, small).protocol["digest"]
    assert score(large, large, seed=5).protocol["digest"] == digest
    assert score(small, small, n_restarts=2).protocol["digest"] != digest


def test_more_clusters_than_features_are_refused() -> None:
    test = separated(10, 0)
    with pytest.raises(UserError, match="15 clusters cannot be fitted to the 10 features"):
        score(test, test, over_cluster=3)


def test_a_single_cluster_is_refused() -> None:
    test = separated(10, 0)
    with pytest.raises(UserError, match=r"over_cluster of 0\.2 .*1 clusters .*5 classes"):
        score(test, test, over_cluster=0.2)


def test_train_needs_no_labels_and_test_needs_classes() -> None:
    test = separated(20, 0)
    assert score(Features(test.values), test, fit="train")
    with pytest.raises(UserError, match="the test split has none"):
        score(test, Features(test.values))
    with pytest.raises(UserError, match="at least 2 classes"):
        score(test, Features(test.values, np.zeros(20, np.int64)))


def test_scores_of_default_settings_stay_those_of_version_one() -> None:
    """Measured before clusters were scored without classes too, so that old results stay comparable."""
    generator = np.random.default_rng(0)
    values = generator.standard_normal((200, 8)).astype(np.float32)
    scores = score(*2 * (Features(values, generator.integers(0, 5, 200)),))
    assert scores.protocol["digest"] == "2cdea171e56e"
    expected = {
        "nmi": 2.319466,
        "ami": -0.267876,
        "ari": -0.078443,
        "purity": 28.8,
        "accuracy": 27,
    }
    assert {name: scores.values[name] for name in expected} == pytest.approx(expected, abs=0.5)


def test_several_factors_are_scored_as_each_alone() -> None:
    test = noise(120, 0)
    both = score(test, test, over_cluster=[1, 2.5])
    one, more = score(test, test), score(test, test, over_cluster=2.5)
    assert both.headline == "nmi@x1"
    assert both.protocol["n_clusters"] == [5, 12]
    expected = {f"{name}@x1": value for name, value in one.values.items() if "_std" not in name}
    expected |= {
        f"{name}@x2.5": value for name, value in more.values.items() if "_std" not in name
    }
    expected |= {"nmi@x1_std": one.values["nmi_std"], "ari@x2.5_std": more.values["ari_std"]}
    assert {name: both.values[name] for name in expected} == expected


def test_clusters_are_scored_without_classes_too() -> None:
    values = score(separated(60, 0), separated(60, 1), n_restarts=20).values
    assert values["balance"] == pytest.approx(100)
    assert values["silhouette"] > 95


def test_details_tell_the_sizes_of_clusters_largest_first() -> None:
    test = noise(90, 0)
    sizes = score(test, test, over_cluster=[1, 2]).details
    assert {mark: (len(each), sum(each)) for mark, each in sizes.items()} == {
        "sizes@x1": (5, 90),
        "sizes@x2": (10, 90),
    }
    assert sizes["sizes@x1"] == sorted(sizes["sizes@x1"], reverse=True)


def test_nan_features_are_refused() -> None:
    test = noise(20, 0)
    test.values[3, 1] = np.nan
    with pytest.raises(UserError, match="1 of 20 train features .*NaN"):
        score(test, test)


def test_zero_and_duplicate_features_are_scored() -> None:
    test = noise(60, 0)
    test.values[:20] = 0
    test.values[20:40] = test.values[20]
    assert all(np.isfinite(value) for value in score(test, test).values.values())


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0, "0 should be one or more numbers above 0"),
        ([], r"\[\] should be one or more numbers"),
        ([1, 1], r"\[1, 1\] .*a factor twice"),
        ("many", "'many' .*number or a list of numbers"),
    ],
)
def test_invalid_factors_are_reported_in_one_line(value: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        EVALUATORS.config({"name": "clustering", "over_cluster": value})
    assert "\n" not in str(raised.value)


def test_factors_that_print_alike_are_refused() -> None:
    with pytest.raises(ValueError, match="a factor twice"):
        Clustering.Config(over_cluster=(1.0, 1.0000001))
