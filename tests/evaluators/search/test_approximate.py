"""Approximate search: what it finds is correct, and its recall is reported."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ssl_zoo.errors import UserError
from ssl_zoo.evaluators.knn.evaluator import Knn
from ssl_zoo.evaluators.knn.protocols import PROTOCOLS, KnnProtocol
from ssl_zoo.evaluators.search import approximate
from ssl_zoo.evaluators.search.approximate import nearest_approximately
from ssl_zoo.evaluators.search.exact import nearest
from tests.evaluators.knn.test_evaluator import blobs


def gaussian(n: int, d: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def protocol_of(index: Any, name: str = "dino") -> KnnProtocol:
    return PROTOCOLS[name].override(k=(5, 20), index=index)


@pytest.fixture
def few_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approximate, "PQ_TRAIN", 256)


@pytest.mark.usefixtures("few_codes")
@pytest.mark.parametrize("name", ["dino", "vissl", "spt"])
@pytest.mark.parametrize("index", ["ivf", "pq", "fp16"])
def test_neighbours_that_are_found_have_their_true_similarity(index: str, name: str) -> None:
    train, test = gaussian(600, 8, 0), gaussian(20, 8, 1)
    protocol = protocol_of(index, name)
    sims, ids, _ = nearest_approximately(train, test, k=20, protocol=protocol)
    true, order = nearest(train, test, k=600, metric=protocol.metric)
    every = np.empty_like(true)
    np.put_along_axis(every, order, true, axis=1)
    found = np.isfinite(sims)
    np.testing.assert_allclose(sims[found], np.take_along_axis(every, ids, 1)[found], atol=2e-6)
    assert (np.diff(sims, axis=1)[found[:, 1:]] <= 0).all()


@pytest.mark.usefixtures("few_codes")
@pytest.mark.parametrize("index", ["ivf", "pq", "fp16"])
def test_recall_is_the_share_of_exact_neighbours(index: str) -> None:
    train, test = gaussian(600, 8, 0), gaussian(20, 8, 1)
    _, ids, details = nearest_approximately(train, test, k=20, protocol=protocol_of(index))
    exact = nearest(train, test, k=20)[1]
    for k in (5, 20):
        shares = [len(set(a[:k]) & set(b[:k])) / k for a, b in zip(exact, ids, strict=True)]
        assert details["index"][f"recall@k={k}"] == pytest.approx(100 * np.mean(shares))
    assert details["index"]["recall@k=20"] > 25  # far above 20 of 600 by chance


def test_half_precision_finds_nearly_all() -> None:
    train, test = gaussian(600, 8, 0), gaussian(20, 8, 1)
    details = nearest_approximately(train, test, k=20, protocol=protocol_of("fp16"))[2]
    assert details["index"]["recall@k=20"] > 97


def test_missing_neighbours_have_no_similarity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approximate, "PROBED_AT_LEAST", 1)  # one cell, of about 39 features
    train, test = gaussian(400, 8, 0), gaussian(20, 8, 1)
    sims, ids, details = nearest_approximately(
        train, test, k=300, protocol=PROTOCOLS["dino"].override(k=(300,), index="ivf")
    )
    assert np.isneginf(sims[:, -1]).all()
    assert (ids >= 0).all()
    assert details["index"]["recall@k=300"] < 60


def test_scores_tell_index_and_recall_and_are_in_a_column_of_their_own() -> None:
    train, test = blobs(400, 0), blobs(60, 1)
    found = Knn(Knn.Config(index="fp16", n_resamples=100)).evaluate(train, test)
    exact = Knn(Knn.Config(n_resamples=100)).evaluate(train, test)
    assert found.values == pytest.approx(exact.values, abs=2)
    assert found.details["index"]["kind"] == "fp16"
    assert found.protocol["digest"] != exact.protocol["digest"]
    assert "index" not in exact.details


def test_codes_need_enough_features_to_learn_from() -> None:
    with pytest.raises(UserError, match="index pq needs at least 9984 train features"):
        Knn(Knn.Config(index="pq")).evaluate(blobs(400, 0), blobs(60, 1))
