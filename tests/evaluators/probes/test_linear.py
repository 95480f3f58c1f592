import logging
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression as Peer

from ssl_zoo.errors import UserError
from ssl_zoo.evaluators.base import Features, Scores
from ssl_zoo.evaluators.probes import design
from ssl_zoo.evaluators.probes import linear as module
from ssl_zoo.evaluators.probes.linear import Linear

QUICK = {"penalties": (1.0, 1e-2), "n_resamples": 100}


def classes(n: int, seed: int, *, n_classes: int = 4, noise: float = 1.0) -> Features:
    """Classes that overlap; labels are no neighbouring numbers."""
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    centres = np.random.default_rng(99).standard_normal((n_classes, 8))
    values = centres[labels] + noise * generator.standard_normal((n, 8))
    return Features(values.astype(np.float32), 10 * labels + 3)


def score(train: Features, test: Features, *, seed: int = 0, **settings: Any) -> Scores:
    return Linear(Linear.Config(**{**QUICK, **settings})).evaluate(train, test, seed=seed)


def test_accuracy_is_that_of_scikit_learn() -> None:
    train, test = classes(200, 0), classes(150, 1)
    found = score(train, test, penalties=(1e-2,), tolerance=1e-6)
    mean, std = train.values.mean(axis=0), train.values.std(axis=0)
    peer = Peer(C=1 / (1e-2 * 200), tol=1e-10, max_iter=100_000)
    peer.fit((train.values - mean) / std, train.labels)
    right = peer.predict((test.values - mean) / std) == test.labels
    np.testing.assert_array_equal(found.outcomes["top1"], right)
    assert found.values["top1"] == pytest.approx(100 * right.mean())
    assert 40 < found.values["top1"] < 95  # neither chance nor trivial


def test_distant_classes_are_separated() -> None:
    assert score(classes(80, 0, noise=0.05), classes(40, 1, noise=0.05)).values["top1"] == 100


def test_top5_needs_more_than_5_classes() -> None:
    assert set(score(classes(80, 0), classes(40, 1)).values) == {"top1"}
    found = score(classes(160, 0, n_classes=8), classes(80, 1, n_classes=8))
    assert set(found.values) == {"top1", "top5"}
    assert found.values["top5"] >= found.values["top1"]


def test_outcomes_and_intervals_are_of_the_scores() -> None:
    found = score(classes(80, 0), classes(41, 1))
    assert found.outcomes["top1"].shape == (41,)
    assert found.values["top1"] == pytest.approx(100 * found.outcomes["top1"].mean())
    low, high = found.intervals["top1"]
    assert low < found.values["top1"] < high


def scripted(monkeypatch: pytest.MonkeyPatch, *shares: float) -> list[float]:
    """Has penalties 1, 0.1, ... score these shares on held-out images, and returns the penalties."""
    left = iter(shares)
    original = module._ranks

    def script(classifier: Any, values: Any, truth: Any, rows: Any = None) -> Any:
        found = original(classifier, values, truth, rows)
        if rows is None:  # the test split
            return found
        return (np.arange(len(found)) >= round(next(left) * len(found))).astype(np.int64)

    monkeypatch.setattr(module, "_ranks", script)
    return [10.0**-place for place in range(len(shares))]


def test_the_penalty_is_the_best_on_held_out_images(monkeypatch: pytest.MonkeyPatch) -> None:
    penalties = scripted(monkeypatch, 0.5, 0.25, 0.75, 0.25)
    details = score(classes(100, 0), classes(40, 1), penalties=penalties).details
    assert details["held_out_top1"] == [50.0, 25.0, 75.0, 25.0]
    assert details["penalty"] == penalties[2]


@pytest.mark.parametrize(("patience", "tried"), [(1, 2), (2, 5), (3, 6)])
def test_penalties_are_tried_until_they_are_worse(
    monkeypatch: pytest.MonkeyPatch, patience: int, tried: int
) -> None:
    penalties = scripted(monkeypatch, 0.5, 0.25, 0.75, 0.5, 0.25, 0.5)
    found = score(classes(100, 0), classes(40, 1), penalties=penalties, patience=patience)
    assert found.details["penalties"] == penalties[:tried]


def test_penalties_that_tie_with_the_best_continue_the_search() -> None:
    easy = classes(80, 0, noise=0.01)
    grid = (1e-1, 1e-2, 1e-3, 1e-4)
    assert len(score(easy, easy, penalties=grid).details["penalties"]) == 4


def test_the_test_split_takes_no_part_in_the_choice() -> None:
    train = classes(100, 0)
    first = score(train, classes(50, 1)).details
    other = score(train, classes(50, 2, noise=9)).details
    assert first["held_out_top1"] == other["held_out_top1"]


def test_of_penalties_that_tie_the_largest_is_taken() -> None:
    easy = classes(80, 0, noise=0.01)
    assert score(easy, easy, penalties=(1e-3, 1e-1, 1e-2)).details["penalty"] == 1e-1


def test_one_penalty_holds_no_image_out(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    original = design.Design

    def watch(values: Any, rows: Any, **settings: Any) -> Any:
        sizes.append(len(values) if rows is None else len(rows))
        return original(values, rows, **settings)

    monkeypatch.setattr(module, "Design", watch)
    score(classes(40, 0), classes(40, 1), penalties=(1e-2,))
    score(classes(40, 0), classes(40, 1))
    assert sizes == [40, 32, 40]


def test_equal_seeds_give_equal_scores() -> None:
    train, test = classes(100, 0, noise=3), classes(50, 1, noise=3)
    first, again = score(train, test, seed=3), score(train, test, seed=3)
    assert (first.values, first.intervals, first.details) == (
        again.values, again.intervals, again.details,
    )  # fmt: skip
    assert score(train, test, seed=4).details["held_out_top1"] != first.details["held_out_top1"]


def test_a_fit_with_too_few_steps_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = score(classes(80, 0), classes(40, 1), penalties=(1e-4,), max_iterations=2)
    assert found.details["converged"] is False
    assert found.details["iterations"] == 2
    assert "after 2 steps" in caplog.text


def test_a_converged_fit_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert score(classes(80, 0), classes(40, 1)).details["converged"] is True
    assert caplog.text == ""


def test_a_test_class_that_train_lacks_is_wrong() -> None:
    train = classes(80, 0, noise=0.05)
    test = classes(40, 1, noise=0.05)
    assert test.labels is not None
    strange = Features(test.values, np.where(test.labels == 3, 4, test.labels))
    assert score(train, strange).values["top1"] == 75
    assert score(train, strange).details["top1_by_class"]["4"] == 0


def test_normalisation_is_part_of_the_protocol() -> None:
    train, test = classes(80, 0), classes(40, 1)
    longer = Features(train.values * np.float32(5), train.labels)
    digest = score(train, test).protocol["digest"]
    assert score(longer, test, normalise="l2").protocol["digest"] != digest
    assert score(train, test, n_resamples=200, seed=5).protocol["digest"] == digest


def test_length_does_not_matter_under_l2() -> None:
    train, test = classes(80, 0, noise=2), classes(40, 1, noise=2)
    lengths = np.linspace(1, 100, 80, dtype=np.float32)[:, None]
    plain = score(train, test, normalise="l2").outcomes["top1"]
    longer = Features(train.values * lengths, train.labels)
    np.testing.assert_array_equal(score(longer, test, normalise="l2").outcomes["top1"], plain)


def test_one_image_of_each_class_needs_a_given_penalty() -> None:
    train = classes(4, 0)
    with pytest.raises(UserError, match="4 train images of 4 classes are too few to hold out"):
        score(train, train)
    assert score(train, train, penalties=(1e-2,)).values["top1"] == 100


def test_labels_are_needed() -> None:
    test = classes(40, 0)
    with pytest.raises(UserError, match="linear needs labels, but the train split has none"):
        score(Features(test.values), test)


def test_penalties_fall_and_differ() -> None:
    assert Linear.Config(penalties=(1e-3, 1.0)).penalties == (1.0, 1e-3)
    with pytest.raises(ValueError, match="penalties .*twice"):
        Linear.Config(penalties=(1.0, 1.0))
