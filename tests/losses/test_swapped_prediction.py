"""The swapped prediction loss against a float64 version written as in the paper."""

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from ssl_zoo import distributed
from ssl_zoo.losses.swapped_prediction import (
    SwappedPredictionLoss,
    SwapSettings,
    swapped_prediction,
)
from tests.assignment.test_sinkhorn import reference as reference_codes
from tests.distributed import run_on_ranks

T = 0.1


def reference(scores: Tensor, codes: Tensor, temperature: float = T) -> Tensor:
    """SwAV, equation 6: every pair on its own, in float64."""
    log_p = (scores.double() / temperature).log_softmax(dim=2)
    loss = torch.zeros((), dtype=torch.float64)
    for i, q in enumerate(codes.double()):
        others = [v for v in range(len(scores)) if v != i]
        pairs = [-(q * log_p[v]).sum(dim=1).mean() for v in others]
        loss = loss + torch.stack(pairs).mean() / len(codes)
    return loss


def some_scores(v: int = 5, b: int = 12, k: int = 20, *, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(v, b, k, generator=generator) * 2 - 1


def some_codes(n: int = 2, b: int = 12, k: int = 20) -> Tensor:
    return torch.stack([reference_codes(s, 0.05).float() for s in some_scores(n, b, k, seed=1)])


def loss_of(**settings: float) -> SwappedPredictionLoss:
    return SwappedPredictionLoss(SwapSettings(**settings))


def test_defaults_are_those_of_the_recipes() -> None:
    config = SwapSettings()
    assert (config.temperature, config.epsilon, config.sinkhorn_iterations) == (0.1, 0.05, 3)


@pytest.mark.parametrize("n_global", [1, 2, 3, 5])
@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_value_and_gradient_equal_float64(n_global: int, temperature: float) -> None:
    scores, codes = some_scores().requires_grad_(), some_codes(n_global)
    exact = scores.detach().double().requires_grad_()
    loss = swapped_prediction(scores, codes, temperature=temperature)
    expected = reference(exact, codes, temperature)
    torch.testing.assert_close(loss.double(), expected, rtol=2e-6, atol=0)
    (gradient,) = torch.autograd.grad(loss, scores)
    (expected_gradient,) = torch.autograd.grad(expected, exact)
    torch.testing.assert_close(gradient.double(), expected_gradient, rtol=1e-5, atol=1e-7)


def test_many_chunks_equal_float64() -> None:
    scores, codes = some_scores(3, 600, 1000).requires_grad_(), some_codes(2, 600, 1000)
    exact = scores.detach().double().requires_grad_()
    loss, expected = swapped_prediction(scores, codes, temperature=T), reference(exact, codes)
    torch.testing.assert_close(loss.double(), expected, rtol=5e-6, atol=0)
    (gradient,) = torch.autograd.grad(loss, scores)
    (expected_gradient,) = torch.autograd.grad(expected, exact)
    torch.testing.assert_close(gradient.double(), expected_gradient, rtol=1e-5, atol=1e-9)


def test_gradcheck() -> None:
    scores, codes = some_scores(4, 3, 5).double().requires_grad_(), some_codes(2, 3, 5).double()
    assert torch.autograd.gradcheck(lambda s: swapped_prediction(s, codes, temperature=T), scores)


def test_a_second_backward_pass_gives_the_same_gradient() -> None:
    scores = some_scores().requires_grad_()
    loss = swapped_prediction(scores, some_codes(), temperature=T)
    (first,) = torch.autograd.grad(3 * loss, scores, retain_graph=True)
    (second,) = torch.autograd.grad(3 * loss, scores)
    assert torch.equal(first, second)


def test_value_without_gradient_is_the_same() -> None:
    scores, codes = some_scores().requires_grad_(), some_codes()
    with torch.no_grad():
        value = swapped_prediction(scores, codes, temperature=T)
    assert torch.equal(value, swapped_prediction(scores, codes, temperature=T).detach())


def test_codes_come_from_global_views_only_each_on_its_own() -> None:
    scores = some_scores()
    codes = loss_of().codes(scores, 2)
    expected = torch.stack([reference_codes(s, 0.05) for s in scores[:2]])
    torch.testing.assert_close(codes.double(), expected, atol=1e-6, rtol=0)


def test_queue_takes_part_in_codes() -> None:
    scores, queue = some_scores(), some_scores(2, 30, seed=2)
    codes = loss_of().codes(scores, 2, queue)
    pairs = zip(scores[:2], queue, strict=True)
    expected = torch.stack([reference_codes(torch.cat(pair), 0.05)[:12] for pair in pairs])
    torch.testing.assert_close(codes.double(), expected, atol=1e-6, rtol=0)


def test_module_is_codes_and_swapped_prediction() -> None:
    scores, queue = some_scores(), some_scores(2, 30, seed=2)
    loss = loss_of(temperature=0.2, epsilon=0.03, sinkhorn_iterations=5)
    pairs = zip(scores[:2], queue, strict=True)
    codes = torch.stack([reference_codes(torch.cat(pair), 0.03, 5)[:12] for pair in pairs])
    expected = reference(scores, codes, 0.2)
    torch.testing.assert_close(loss(scores, 2, queue).double(), expected, rtol=2e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_scores_are_computed_in_float32(dtype: torch.dtype) -> None:
    scores = (50 * some_scores()).to(dtype).requires_grad_()
    loss = loss_of(epsilon=0.005)(scores, 2)
    (gradient,) = torch.autograd.grad(loss, scores)
    assert (loss.dtype, gradient.dtype) == (torch.float32, dtype)
    exact = scores.detach().double().requires_grad_()
    codes = torch.stack([reference_codes(s, 0.005) for s in exact[:2].detach()])
    expected = reference(exact, codes)
    (expected_gradient,) = torch.autograd.grad(expected, exact)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(gradient.double(), expected_gradient, rtol=1e-2, atol=1e-4)


def test_loss_scaling_reaches_half_precision_gradients_before_they_are_rounded() -> None:
    # Gradients of 1e-9 are zero in float16; a scaler multiplies the loss so that they survive.
    scores = some_scores().half().requires_grad_()
    loss = swapped_prediction(scores, some_codes(), temperature=10.0) / 1e4
    (gradient,) = torch.autograd.grad(loss * 1e8, scores)
    exact = scores.detach().double().requires_grad_()
    (expected,) = torch.autograd.grad(reference(exact, some_codes(), 10.0) * 1e4, exact)
    torch.testing.assert_close(gradient.double(), expected, rtol=2e-3, atol=1e-3)


def test_autocast_changes_nothing() -> None:
    scores, codes = some_scores().requires_grad_(), some_codes()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = swapped_prediction(scores, codes, temperature=T)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, swapped_prediction(scores, codes, temperature=T))


def test_sharp_predictions_stay_finite() -> None:
    scores = (1e4 * some_scores()).requires_grad_()
    loss = loss_of(temperature=0.01)(scores, 2)
    (gradient,) = torch.autograd.grad(loss, scores)
    assert loss.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize(
    ("scores", "codes", "message"),
    [
        ((5, 12, 20), (2, 12, 19), r"codes \(2, 12, 19\) not \(n_global, B, K\)"),
        ((1, 12, 20), (1, 12, 20), "codes of 1 views cannot be swapped among 1 views"),
        ((2, 12, 20), (3, 12, 20), "codes of 3 views cannot be swapped among 2 views"),
    ],
)
def test_shapes_that_do_not_fit_are_named(
    scores: tuple[int, ...], codes: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        swapped_prediction(torch.zeros(scores), torch.zeros(codes), temperature=T)


def test_numbers_of_views_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match="n_global of 6 does not fit 5 views"):
        loss_of()(some_scores(), 6)
    with pytest.raises(ValueError, match="3 queues do not fit 2 global views"):
        loss_of()(some_scores(), 2, some_scores(3))


@pytest.mark.parametrize(
    "settings", [{"temperature": 0}, {"epsilon": 0}, {"sinkhorn_iterations": 0}]
)
def test_settings_have_bounds(settings: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        loss_of(**settings)


def _gradient_on_a_rank(scores: Tensor) -> tuple[Tensor, Tensor]:
    mine = scores.chunk(distributed.world_size(), dim=1)[distributed.rank()]
    mine = mine.contiguous().requires_grad_()
    loss = loss_of()(mine, 2)
    return loss.detach(), torch.autograd.grad(loss, mine)[0]


@pytest.mark.distributed
def test_two_ranks_equal_one_process_with_the_whole_batch() -> None:
    scores = some_scores()
    loss, gradient = _gradient_on_a_rank(scores)
    ranks = run_on_ranks(_gradient_on_a_rank, 2, scores)
    mean_loss = torch.stack([rank[0] for rank in ranks]).mean()
    torch.testing.assert_close(mean_loss, loss, rtol=2e-6, atol=0)
    together = torch.cat([rank[1] for rank in ranks], dim=1) / 2  # as DDP averages
    torch.testing.assert_close(together, gradient, rtol=1e-5, atol=1e-8)
