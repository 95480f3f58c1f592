"""Sinkhorn codes against float64, at ranges where exponentials overflow, and on ranks."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ssl_zoo import distributed
from ssl_zoo.assignment.sinkhorn import sinkhorn
from tests.distributed import run_on_ranks


def reference(scores: Tensor, epsilon: float, n_iterations: int = 3) -> Tensor:
    """Codes in float64 by logsumexp, prototypes first, as SwAV orders the normalisations."""
    m = scores.double() / epsilon
    f = torch.zeros(m.shape[1], dtype=torch.float64)
    g = torch.zeros(m.shape[0], dtype=torch.float64)
    for _ in range(n_iterations):
        f = -torch.logsumexp(m + g[:, None], dim=0)
        g = -torch.logsumexp(m + f, dim=1)
    return (m + f + g[:, None]).exp()


def cosines(n: int = 96, k: int = 40, *, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    z = normalize(torch.randn(n, 8, generator=generator))
    prototypes = normalize(torch.randn(k, 8, generator=generator))
    return z @ prototypes.t()


def with_dead_prototype() -> Tensor:
    scores = cosines()
    scores[:, 3] = -1
    return scores


def with_outliers() -> Tensor:
    scores = cosines()
    scores[::7] -= 2
    scores[5] = -1
    return scores


def one_hot() -> Tensor:
    return 2 * torch.eye(40).repeat(3, 1)[:96] - 1


def all_alike() -> Tensor:
    return cosines()[:1].repeat(96, 1)


CASES: dict[str, Callable[[], Tensor]] = {
    "cosines": cosines,
    "dead_prototype": with_dead_prototype,
    "outliers": with_outliers,
    "one_hot": one_hot,
    "all_alike": all_alike,
    "logits": lambda: 30 * cosines(),
    "more_prototypes_than_samples": lambda: cosines(6, 500),
}


def test_follows_the_published_order_of_normalisations() -> None:
    # Algorithm 1 in the appendix of SwAV, in float64 on plain exponentials.
    scores = cosines()
    q = (scores.double() / 0.05).exp().t()
    q /= q.sum()
    for _ in range(3):
        q /= q.sum(dim=1, keepdim=True)
        q /= len(q)
        q /= q.sum(dim=0, keepdim=True)
        q /= q.shape[1]
    torch.testing.assert_close(
        sinkhorn(scores, epsilon=0.05).double(), (q * q.shape[1]).t(), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("epsilon", [0.002, 0.005, 0.01, 0.05, 1.0])
@pytest.mark.parametrize("case", CASES)
def test_equals_float64_at_every_range(case: str, epsilon: float, dtype: torch.dtype) -> None:
    scores = CASES[case]().to(dtype)
    codes = sinkhorn(scores, epsilon=epsilon)
    assert codes.dtype == torch.float32
    assert (codes.double() - reference(scores, epsilon)).abs().max() <= 1e-5


@pytest.mark.parametrize("n_iterations", [1, 2, 4, 5, 9, 30])
@pytest.mark.parametrize("case", ["cosines", "outliers", "dead_prototype"])
def test_equals_float64_after_any_number_of_iterations(case: str, n_iterations: int) -> None:
    scores = CASES[case]()
    codes = sinkhorn(scores, epsilon=0.02, n_iterations=n_iterations)
    assert (codes.double() - reference(scores, 0.02, n_iterations)).abs().max() <= 1e-5


def test_equals_float64_over_many_chunks() -> None:
    scores = cosines(700, 1200)
    assert (sinkhorn(scores, epsilon=0.05) - reference(scores, 0.05)).abs().max() <= 1e-5


@pytest.mark.parametrize("case", CASES)
def test_each_code_sums_to_one(case: str) -> None:
    sums = sinkhorn(CASES[case](), epsilon=0.01).sum(dim=1)
    torch.testing.assert_close(sums, torch.ones_like(sums), atol=2e-6, rtol=0)


def test_codes_use_every_prototype_equally() -> None:
    mass = sinkhorn(with_dead_prototype(), epsilon=0.05, n_iterations=30).sum(dim=0)
    torch.testing.assert_close(mass, torch.full_like(mass, 96 / 40), rtol=1e-3, atol=0)


def test_equal_features_have_uniform_codes() -> None:
    codes = sinkhorn(all_alike(), epsilon=0.05)
    torch.testing.assert_close(codes, torch.full_like(codes, 1 / 40))


def test_queue_rows_come_after_the_batch_and_have_no_codes() -> None:
    batch, queue = cosines(16), cosines(64, seed=1)
    codes = sinkhorn([batch, queue], epsilon=0.05, n_codes=16)
    whole = sinkhorn(torch.cat([batch, queue]), epsilon=0.05)
    torch.testing.assert_close(codes, whole[:16], atol=1e-6, rtol=0)
    assert codes.untyped_storage().nbytes() == codes.numel() * 4


def test_codes_do_not_write_into_scores() -> None:
    scores = cosines()
    before = scores.clone()
    sinkhorn(scores, epsilon=0.05)
    assert torch.equal(scores, before)


def test_codes_carry_no_gradient() -> None:
    assert not sinkhorn(cosines().requires_grad_(), epsilon=0.05).requires_grad


def test_autocast_changes_nothing() -> None:
    scores = cosines()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        codes = sinkhorn(scores, epsilon=0.05)
    assert torch.equal(codes, sinkhorn(scores, epsilon=0.05))


def test_float64_stays() -> None:
    scores = cosines().double()
    torch.testing.assert_close(sinkhorn(scores, epsilon=0.05), reference(scores, 0.05))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epsilon": 0.0}, "epsilon of 0.0 must be above 0"),
        ({"epsilon": math.nan}, "epsilon of nan must be above 0"),
        ({"epsilon": 0.05, "n_iterations": 0}, "n_iterations of 0 must be 1 or more"),
        ({"epsilon": 0.05, "n_codes": 97}, "n_codes of 97 must lie between 0 and the 96 rows"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sinkhorn(cosines(), **arguments)  # type: ignore[arg-type]


def test_parts_of_different_prototypes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one K, not \[\(96, 40\), \(96, 30\)\]"):
        sinkhorn([cosines(), cosines(k=30)], epsilon=0.05)


SPLITS = {"even": [48, 48], "uneven": [80, 16], "empty_rank": [96, 0]}


def _codes_of_splits(scores: Tensor, queue: Tensor) -> dict[str, Tensor]:
    """Codes of this rank's rows, for each split; outliers lie on some ranks only."""
    rank = distributed.rank()
    codes = {
        name: sinkhorn(torch.split(scores, split)[rank], epsilon=0.01)
        for name, split in SPLITS.items()
    }
    half = [torch.split(scores, 48)[rank], torch.split(queue, 32)[rank]]
    codes["queue"] = sinkhorn(half, epsilon=0.01, n_codes=48)
    return codes


@pytest.mark.distributed
def test_ranks_solve_one_problem_together() -> None:
    scores, queue = with_dead_prototype(), cosines(64, seed=1)
    scores[:40:7] -= 2
    ranks = run_on_ranks(_codes_of_splits, 2, scores, queue)
    whole = reference(scores, 0.01)
    for name in SPLITS:
        together = torch.cat([codes[name] for codes in ranks])
        assert (together - whole).abs().max() <= 1e-5, name
    together = torch.cat([codes["queue"] for codes in ranks])
    whole = reference(torch.cat([scores, queue]), 0.01)[:96]
    assert (together - whole).abs().max() <= 1e-5
