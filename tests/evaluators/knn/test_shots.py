"""kNN from few train images of each class, drawn several times."""

import numpy as np
import pytest

from ssl_zoo.errors import UserError
from ssl_zoo.evaluators.base import Features, Scores
from ssl_zoo.evaluators.knn.evaluator import Knn
from tests.evaluators.knn.test_evaluator import blobs, by_definition


def score(train: Features, test: Features, *, seed: int = 0, **settings: int) -> Scores:
    config = Knn.Config(k=(3,), n_resamples=100, **settings)
    return Knn(config).evaluate(train, test, seed=seed)


def test_all_images_of_each_class_are_no_draw() -> None:
    train, test = blobs(200, 0), blobs(40, 1)
    even = np.concatenate([np.flatnonzero(train.labels == one)[:12] for one in range(10)])
    even.sort()
    assert train.labels is not None
    train = Features(train.values[even], train.labels[even])
    found = score(train, test, shots=12, n_seeds=3)
    assert found.values["top1@k=3"] == pytest.approx(
        by_definition(train, test, k=3, temperature=0.07, top=1)
    )
    assert found.values["top1@k=3_std"] == 0


def test_scores_are_means_over_draws_with_their_spread() -> None:
    train, test = blobs(300, 0), blobs(60, 1)
    assert train.labels is not None
    draws = Knn(Knn.Config(shots=4, n_seeds=5))._draws(train.labels, np.arange(10), seed=0)
    singles = [
        by_definition(
            Features(train.values[rows], train.labels[rows]), test, k=3, temperature=0.07, top=1
        )
        for rows in draws
        if rows is not None
    ]
    found = score(train, test, shots=4, n_seeds=5)
    assert found.values["top1@k=3"] == pytest.approx(np.mean(singles))
    assert found.values["top1@k=3_std"] == pytest.approx(np.std(singles, ddof=1))


def test_each_draw_has_as_many_images_of_each_class_and_none_twice() -> None:
    labels = np.random.default_rng(0).integers(0, 4, 100)
    draws = list(Knn(Knn.Config(shots=6, n_seeds=4))._draws(labels, np.arange(4), seed=0))
    for rows in draws:
        assert rows is not None
        assert (np.diff(rows) > 0).all()
        assert np.bincount(labels[rows]).tolist() == [6, 6, 6, 6]
    assert len({tuple(rows) for rows in draws if rows is not None}) == 4


def test_outcomes_are_shares_of_draws_that_hit() -> None:
    found = score(blobs(300, 0), blobs(60, 1), shots=4, n_seeds=4)
    outcome = found.outcomes["top1@k=3"]
    assert outcome.dtype == np.float32
    assert set(np.unique(outcome)) <= {0, 0.25, 0.5, 0.75, 1}
    assert 100 * outcome.mean() == pytest.approx(found.values["top1@k=3"])


def test_draws_depend_on_the_seed_alone() -> None:
    train, test = blobs(300, 0), blobs(60, 1)
    first, again, other = (score(train, test, seed=one, shots=2, n_seeds=2) for one in (0, 0, 1))
    assert first.values == again.values
    assert first.values != other.values


def test_shots_are_part_of_the_protocol() -> None:
    protocol = score(blobs(300, 0), blobs(60, 1), shots=4, n_seeds=2).protocol
    assert (protocol["name"], protocol["shots"], protocol["n_draws"]) == ("custom", 4, 2)


def test_a_class_of_fewer_images_than_shots_is_named() -> None:
    labels = np.array([5] * 10 + [9] * 3)
    train = Features(np.ones((13, 2), np.float32), labels)
    with pytest.raises(UserError, match="class 9 has 3 train images, fewer than shots of 4"):
        score(train, train, shots=4)
