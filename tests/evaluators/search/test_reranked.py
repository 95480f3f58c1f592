"""Products in bfloat16 pick candidates, and neighbours are still those of a full sort in float64."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ssl_zoo.errors import UserError
from ssl_zoo.evaluators.knn.evaluator import Knn
from ssl_zoo.evaluators.search import exact, reranked
from ssl_zoo.evaluators.search.exact import nearest, unit_rows
from ssl_zoo.evaluators.search.reranked import nearest_reranked
from ssl_zoo.evaluators.search.sharing import Bank
from tests.evaluators.knn.test_evaluator import blobs
from tests.evaluators.search.test_exact import all_in_order, gaussian, signs


def assert_exact(train: NDArray[np.float32], test: NDArray[np.float32], k: int) -> None:
    sims, ids = nearest(train, test, k=k, precision="bf16")
    np.testing.assert_array_equal(ids, all_in_order(train, test)[:, :k])
    expected = (unit_rows(test) @ unit_rows(train).T)[np.arange(len(test))[:, None], ids]
    np.testing.assert_allclose(sims, expected, atol=1e-6)


@pytest.fixture(autouse=True)
def groups_of_four(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets tests of a few hundred features look into some groups only."""
    monkeypatch.setattr(reranked, "GROUP", 4)
    monkeypatch.setattr(reranked, "MORE", 4)


@pytest.mark.parametrize("k", [1, 7, 60])
@pytest.mark.parametrize("n", [60, 301, 2000])
def test_neighbours_are_those_of_a_full_sort(n: int, k: int) -> None:
    assert_exact(gaussian(n, 24, 0), gaussian(50, 24, 1), k)


@pytest.mark.parametrize("k", [1, 5])
def test_lowest_indices_win_ties(k: int) -> None:
    assert_exact(signs(500, 0), signs(30, 1), k)


def test_small_chunks_find_the_same_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "CHUNK_BYTES", 2 * 24 * 170)
    monkeypatch.setattr(reranked, "BLOCK_NUMBERS", 170 * 7)
    monkeypatch.setattr(reranked, "PAIR_NUMBERS", 24 * 5)
    assert_exact(gaussian(2000, 24, 0), gaussian(50, 24, 1), 5)


def test_differences_that_bfloat16_cannot_see_still_decide() -> None:
    """All 30 variants of a feature have the same bfloat16 product with it, or nearly so."""
    base = gaussian(20, 24, 0)
    train = np.repeat(base, 30, axis=0) + 3e-2 * gaussian(600, 24, 1)
    assert_exact(train, base, 5)


def test_features_that_bounds_cannot_set_apart_are_searched_in_float32() -> None:
    train = np.tile(gaussian(1, 24, 0), (400, 1)) + 3e-2 * gaussian(400, 24, 1)
    test = train[:10] + 3e-2 * gaussian(10, 24, 2)
    unsure = nearest_reranked(Bank(train, 1 << 20, unit=True), test, 5)[2]
    assert len(unsure) == 10
    assert_exact(train, test, 5)


def test_ordinary_features_need_no_second_search() -> None:
    unsure = nearest_reranked(
        Bank(gaussian(2000, 64, 0), 1 << 20, unit=True), gaussian(50, 64, 1), 5
    )[2]
    assert len(unsure) < 5


@pytest.mark.parametrize("scale", [1e-3, 1e6])
def test_dot_products_of_any_scale_are_exact(scale: float) -> None:
    train = (scale * gaussian(2000, 24, 0)).astype(np.float32)
    test = gaussian(50, 24, 1)
    products = test.astype(np.float64) @ train.T.astype(np.float64)
    ids = nearest(train, test, k=5, metric="dot", precision="bf16")[1]
    np.testing.assert_array_equal(ids, np.argsort(-products, axis=1, kind="stable")[:, :5])


def test_products_that_overflow_are_refused() -> None:
    large = 1e19 * gaussian(300, 24, 0)
    with pytest.raises(UserError, match="features are so long"):
        nearest(large, large[:10], k=5, metric="dot", precision="bf16")


def test_zeros_have_cosine_zero_with_everything() -> None:
    train = np.zeros((300, 24), np.float32)
    train[7] = 1
    sims, ids = nearest(train, train[6:8], k=3, precision="bf16")
    np.testing.assert_array_equal(ids, [[0, 1, 2], [7, 0, 1]])
    np.testing.assert_allclose(sims, [[0, 0, 0], [1, 0, 0]], atol=1e-6)


def test_the_bound_holds_for_the_products_it_is_of() -> None:
    """For features whose rounding errors all point one way, which comes near to the bound."""
    import torch

    nearly_half = np.float32(1 + 0.49 * 2.0**-7)  # loses nearly half a unit of bfloat16
    train = nearly_half * np.exp2(gaussian(50, 64, 0).round())
    test = nearly_half * np.exp2(gaussian(20, 64, 1).round())
    ours, theirs = (
        reranked._Rounded.of(one, torch.device("cpu"), unit=False) for one in (test, train)
    )
    approximate = (ours.rounded @ theirs.rounded.T)[:, :50].double()
    exact = torch.from_numpy(test).double() @ torch.from_numpy(train).double().T
    slack = reranked._slack(ours, theirs, slice(None))[:, None]
    bound = slack + reranked.ROUNDING * approximate.abs()
    off = (approximate - exact).abs()
    assert (off <= bound).all()
    assert (off / bound).max() > 0.4


@pytest.mark.parametrize(("k", "used"), [(64, True), (65, False)])
def test_many_neighbours_are_searched_in_float32(
    k: int, used: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def counted(*args: Any, **settings: Any) -> Any:
        calls.append(1)
        return nearest_reranked(*args, **settings)

    monkeypatch.setattr(reranked, "nearest_reranked", counted)
    nearest(gaussian(300, 24, 0), gaussian(5, 24, 1), k=k, precision="bf16")
    assert bool(calls) == used


def test_precision_of_the_search_does_not_touch_scores_or_the_protocol() -> None:
    train, test = blobs(400, 0), blobs(60, 1)
    fast, plain = (
        Knn(Knn.Config(precision=precision, k=(20,), n_resamples=100)).evaluate(train, test)
        for precision in ("bf16", "fp32")
    )
    assert fast.values == plain.values
    assert fast.protocol == plain.protocol
