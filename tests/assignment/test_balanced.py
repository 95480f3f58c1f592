"""Balanced assignment against Sinkhorn-Knopp in float64 on the whole matrix, and over ranks."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ssl_zoo import distributed
from ssl_zoo.assignment import balanced as module
from ssl_zoo.assignment.balanced import balanced_assignment, prices
from ssl_zoo.assignment.sinkhorn import sinkhorn
from tests.distributed import run_on_ranks


def problem(n: int = 240, k: int = 12, *, popular: float = 0.5) -> tuple[Tensor, Tensor]:
    """Embeddings that lean to one side, so that without prices few prototypes win, and prototypes."""
    generator = torch.Generator().manual_seed(0)
    lean = popular * torch.eye(6, dtype=torch.float64)[0]
    z = torch.randn(n, 6, generator=generator, dtype=torch.float64) / 2 + lean
    c = torch.randn(k, 6, generator=generator, dtype=torch.float64)
    return normalize(z, dim=1), normalize(c, dim=1)


def reference(scores: Tensor, epsilon: float, n_iterations: int = 20_000) -> Tensor:
    """Codes in float64 by logsumexp over the whole matrix; samples last, so that rows sum to one."""
    m = scores.double() / epsilon
    f = torch.zeros(m.shape[1], dtype=torch.float64)
    for _ in range(n_iterations):
        g = -torch.logsumexp(m + f, dim=1)
        old, f = f, -torch.logsumexp(m + g[:, None], dim=0)
        f = f - f.mean()
        if float((f - old).abs().max()) < 1e-12:
            break
    return (m + f).softmax(dim=1)


def codes(z: Tensor, c: Tensor, epsilon: float, tolerance: float = 1e-9) -> Tensor:
    found = prices(z, c, epsilon=epsilon, tolerance=tolerance, max_iterations=20_000)
    return ((z @ c.t() - found) / epsilon).softmax(dim=1)


@pytest.mark.parametrize("epsilon", [0.02, 0.05, 0.5])
def test_codes_equal_sinkhorn_in_float64(epsilon: float) -> None:
    z, c = problem()
    torch.testing.assert_close(
        codes(z, c, epsilon), reference(z @ c.t(), epsilon), rtol=0, atol=1e-6
    )


def test_codes_equal_those_of_a_batch() -> None:
    z, c = (x.float() for x in problem())
    batch = sinkhorn(z @ c.t(), epsilon=0.05, n_iterations=1000)
    torch.testing.assert_close(codes(z, c, 0.05, 1e-6), batch, rtol=0, atol=1e-4)


def test_images_take_the_prototype_of_their_largest_code() -> None:
    z, c = problem()
    found = balanced_assignment(z, c, epsilon=0.05, tolerance=1e-9, max_iterations=20_000)
    assert torch.equal(found, reference(z @ c.t(), 0.05).argmax(dim=1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_each_prototype_has_an_equal_mass(dtype: torch.dtype) -> None:
    z, c = (x.to(dtype) for x in problem())
    mass = codes(z, c, 0.05, 1e-4).sum(dim=0)
    torch.testing.assert_close(mass, torch.full_like(mass, 240 / 12), rtol=1e-3, atol=0)


def test_a_small_epsilon_gives_each_prototype_equally_many_images() -> None:
    z, c = problem()
    plain = torch.bincount((z @ c.t()).argmax(dim=1), minlength=12)
    found = balanced_assignment(z, c, epsilon=0.001, tolerance=1e-3, max_iterations=20_000)
    counts = torch.bincount(found, minlength=12)
    assert int(plain.max()) > 40
    assert int((counts - 20).abs().max()) <= 1


@pytest.mark.parametrize("epsilon", [1e-5, 1e-3, 100.0])
@pytest.mark.parametrize("popular", [0.0, 50.0])
def test_extreme_epsilon_stays_finite(epsilon: float, popular: float) -> None:
    z, c = (x.float() for x in problem(popular=popular))
    found = prices(z, c, epsilon=epsilon, tolerance=0.01, max_iterations=50)
    assert torch.isfinite(found).all()


def test_large_scores_are_as_good_as_small_ones() -> None:
    z, c = problem()
    found = prices(100 * z, c, epsilon=5.0, tolerance=1e-6, max_iterations=1000)
    small = prices(z, c, epsilon=0.05, tolerance=1e-6, max_iterations=1000)
    torch.testing.assert_close(found / 100, small)


def test_what_is_added_to_all_scores_of_a_prototype_changes_nothing() -> None:
    z, c = problem()
    ones = torch.ones(240, 1, dtype=torch.float64)
    bias = torch.linspace(-3, 3, 12, dtype=torch.float64)[:, None]
    biased = balanced_assignment(torch.cat([z, ones], 1), torch.cat([c, bias], 1), epsilon=0.05)
    assert torch.equal(biased, balanced_assignment(z, c, epsilon=0.05))


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    z, c = problem()
    whole = prices(z, c, epsilon=0.05, tolerance=1e-9, max_iterations=100)
    monkeypatch.setattr(module, "_CHUNK_ELEMENTS", {"cpu": 12 * 7})
    torch.testing.assert_close(
        prices(z, c, epsilon=0.05, tolerance=1e-9, max_iterations=100), whole
    )


def test_scores_that_are_held_are_those_that_are_computed_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    z, c = (x.float() for x in problem())
    held = prices(z, c, epsilon=0.05, tolerance=1e-9, max_iterations=30)
    monkeypatch.setattr(module, "_HELD_ELEMENTS", 240 * 12 - 1)
    assert torch.equal(prices(z, c, epsilon=0.05, tolerance=1e-9, max_iterations=30), held)


def test_looking_less_often_changes_no_price(monkeypatch: pytest.MonkeyPatch) -> None:
    z, c = problem()
    once = prices(z, c, epsilon=0.05, tolerance=1e-3, max_iterations=200)
    looks: list[float] = []
    monkeypatch.setitem(module._ITERATIONS_PER_LOOK, "cpu", 8)
    masses = module._masses

    def counted(*args: Any, **kwargs: Any) -> Any:
        looks.append(1.0)
        return masses(*args, **kwargs)

    monkeypatch.setattr(module, "_masses", counted)
    assert torch.equal(prices(z, c, epsilon=0.05, tolerance=1e-3, max_iterations=200), once)
    assert len(looks) % 8 == 1  # it ended at a look


def test_no_embeddings_have_no_assignment() -> None:
    _, c = problem()
    assert balanced_assignment(torch.empty(0, 6), c.float(), epsilon=0.1).shape == (0,)


def test_an_epsilon_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="epsilon of 0 must be above 0"):
        balanced_assignment(*problem(), epsilon=0)


def uneven_part() -> Tensor:
    z, c = problem()
    cut = {1: [z], 2: [z[:50], z[50:]]}[distributed.world_size()]
    return balanced_assignment(cut[distributed.rank()], c, epsilon=0.05, tolerance=1e-9)


@pytest.mark.distributed
def test_two_ranks_assign_as_one() -> None:
    assert torch.equal(torch.cat(run_on_ranks(uneven_part, 2)), uneven_part())
