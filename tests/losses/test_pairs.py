"""Pairs of views, and cosines over them against loops in float64."""

import pytest
import torch
from torch import Tensor

from ssl_zoo.losses.pairs import mean_cosine, view_pairs

SHAPES = [(2, 2), (5, 2), (3, 3), (4, 1)]
"""Numbers of views and of global views."""


def slow_cosine(predictions: Tensor, targets: Tensor) -> Tensor:
    """The cosine of every image and every view with every other global view, one at a time."""
    p, t = predictions.double(), targets.detach().double()
    terms = [
        (p[v, b] / p[v, b].norm()) @ (t[g, b] / t[g, b].norm())
        for v in range(len(p))
        for g in range(len(t))
        if v != g
        for b in range(p.shape[1])
    ]
    return torch.stack(terms).mean()


def some(v: int = 2, b: int = 6, d: int = 4, *, seed: int = 0) -> Tensor:
    return torch.randn(v, b, d, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((2, 2), [(0, 1)]),
        ((3, 3), [(0, 1), (0, 2), (1, 2)]),
        ((4, 2), [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3)]),
        ((3, 1), [(0, 1), (0, 2)]),
    ],
)
def test_each_pair_with_a_global_view_comes_once(
    shape: tuple[int, int], expected: list[tuple[int, int]]
) -> None:
    assert view_pairs(*shape) == expected


@pytest.mark.parametrize(("n_views", "n_global"), [(1, 1), (2, 0), (2, 3)])
def test_views_without_pairs_are_refused(n_views: int, n_global: int) -> None:
    with pytest.raises(ValueError, match=f"n_global of {n_global} and {n_views} views"):
        view_pairs(n_views, n_global)


@pytest.mark.parametrize(("n_views", "n_global"), SHAPES)
def test_the_cosine_and_its_gradient_equal_a_loop(n_views: int, n_global: int) -> None:
    predictions, targets = some(n_views).requires_grad_(), some(n_global, seed=1)
    exact = predictions.detach().double().requires_grad_()
    cosine, expected = mean_cosine(predictions, targets), slow_cosine(exact, targets)
    torch.testing.assert_close(cosine.double(), expected, rtol=1e-6, atol=1e-7)
    (gradient,) = torch.autograd.grad(cosine, predictions)
    (expected_gradient,) = torch.autograd.grad(expected, exact)
    torch.testing.assert_close(gradient.double(), expected_gradient, rtol=1e-5, atol=1e-7)


def test_gradcheck() -> None:
    predictions, targets = some(4, 3).double().requires_grad_(), some(2, 3, seed=1).double()
    assert torch.autograd.gradcheck(lambda p: mean_cosine(p, targets), predictions)


def test_no_gradient_reaches_targets() -> None:
    predictions, targets = some().requires_grad_(), some(seed=1).requires_grad_()
    cosine = mean_cosine(predictions, targets)
    torch.autograd.backward(cosine)
    assert predictions.grad is not None
    assert targets.grad is None


def test_a_view_does_not_predict_itself() -> None:
    predictions = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    assert mean_cosine(predictions, predictions) == 0
    assert mean_cosine(predictions, predictions.flip(0)) == 1


def test_lengths_do_not_matter() -> None:
    predictions, targets = some(), some(seed=1)
    cosine = mean_cosine(7 * predictions, 0.1 * targets)
    torch.testing.assert_close(cosine, mean_cosine(predictions, targets))


@pytest.mark.parametrize(
    "predictions", [some(3, 1), torch.zeros(3, 5, 4), 1e4 * some(3)], ids=["one", "zeros", "large"]
)
def test_degenerate_batches_stay_finite(predictions: Tensor) -> None:
    leaf = predictions.clone().requires_grad_()
    cosine = mean_cosine(leaf, predictions[:2])
    (gradient,) = torch.autograd.grad(cosine, leaf)
    assert cosine.isfinite()
    assert gradient.abs().max() <= 1e6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32_under_autocast(dtype: torch.dtype) -> None:
    predictions, targets = some().to(dtype), some(seed=1).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cosine = mean_cosine(predictions, targets)
    assert cosine.dtype == torch.float32
    torch.testing.assert_close(
        cosine.double(), slow_cosine(predictions, targets), rtol=1e-6, atol=0
    )


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"predictions \(2, 6, 4\) are not"):
        mean_cosine(some(), some(b=5))
