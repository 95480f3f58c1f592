"""Losses of a discrete autoencoder against closed forms, torch's own and slow versions in float64."""

import math

import pytest
import torch
from torch import Tensor

from ssl_zoo.losses.soft_codes import (
    code_use,
    divergence_from_uniform,
    logit_laplace,
    soft_codes,
    squeezed,
    unsqueezed,
)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def uniform(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_soft_codes_are_those_of_gumbels_distribution() -> None:
    """torch's distribution has the same quantiles: loc - scale ln(-ln u)."""
    scores, u = drawn(2, 5, 3, 2), uniform(2, 5, 3, 2)
    gumbel = torch.distributions.Gumbel(torch.zeros(()).double(), 1.0).icdf(u)  # type: ignore[no-untyped-call]
    expected = ((scores + gumbel) / 0.3).softmax(dim=1)
    torch.testing.assert_close(soft_codes(scores, u, temperature=0.3), expected)


def test_samples_choose_codes_as_often_as_their_probabilities() -> None:
    """At a low temperature they are one-hot, drawn from the softmax of the scores (Gumbel-max)."""
    scores = torch.tensor([0.0, 1.0, 2.0]).view(1, 3, 1, 1).double().expand(1, 3, 100, 100)
    chosen = soft_codes(scores, uniform(1, 3, 100, 100), temperature=1e-4)
    expected = scores[0, :, 0, 0].softmax(dim=0)
    torch.testing.assert_close(chosen.mean(dim=(0, 2, 3)), expected, rtol=0, atol=0.015)


def test_a_random_number_of_zero_is_finite() -> None:
    u = torch.zeros(1, 2, 1, 1).double()
    assert soft_codes(drawn(1, 2, 1, 1), u, temperature=0.1).isfinite().all()


def test_the_divergence_is_summed_over_codes_and_averaged_over_patches() -> None:
    scores = drawn(2, 4, 3, 2)
    values = []
    for image in scores:
        for row in range(3):
            for column in range(2):
                q = image[:, row, column].softmax(dim=0)
                values.append(sum(float(p) * (math.log(p) + math.log(4)) for p in q))
    assert float(divergence_from_uniform(scores)) == pytest.approx(sum(values) / 12, rel=1e-12)


def test_the_divergence_lies_between_even_and_certain_codes() -> None:
    certain = torch.tensor([1000.0, 0, 0, 0]).view(1, 4, 1, 1)
    assert float(divergence_from_uniform(torch.zeros(1, 4, 2, 2))) == pytest.approx(0, abs=1e-6)
    assert float(divergence_from_uniform(certain)) == pytest.approx(math.log(4))


def test_the_density_of_pixels_integrates_to_one() -> None:
    """Over x in (0, 1); pixels reach a part of it, beyond which the formula is the same."""
    pixels = torch.linspace(-0.125, 1.125, 200_003, dtype=torch.float64)[1:-1].view(1, 1, 1, -1)
    mean, log_scale = torch.tensor(0.4).double(), torch.tensor(-0.7).double()
    density = [
        math.exp(-float(logit_laplace(pixel, mean, log_scale)))
        for pixel in pixels.flatten()[::200]
    ]
    assert sum(density) / len(density) == pytest.approx(1, abs=2e-3)


def test_the_likelihood_is_equation_2() -> None:
    pixels, mean, log_scale = uniform(1, 2, 2, 2), drawn(1, 2, 2, 2), drawn(1, 2, 2, 2, seed=3)
    x, b = 0.8 * pixels + 0.1, log_scale.exp()
    density = (-(torch.log(x / (1 - x)) - mean).abs() / b).exp() / (2 * b * x * (1 - x))
    torch.testing.assert_close(logit_laplace(pixels, mean, log_scale), -density.log().mean())


def test_squeezed_pixels_come_back() -> None:
    pixels = torch.tensor([0.0, 0.25, 1.0])
    torch.testing.assert_close(squeezed(pixels), torch.tensor([0.1, 0.3, 0.9]))
    torch.testing.assert_close(unsqueezed(squeezed(pixels)), pixels)


def test_gradients_are_those_of_differences() -> None:
    scores, u = drawn(1, 3, 2, 1).requires_grad_(), uniform(1, 3, 2, 1)
    assert torch.autograd.gradcheck(lambda s: soft_codes(s, u, temperature=0.5), (scores,))
    assert torch.autograd.gradcheck(divergence_from_uniform, (scores,))
    given = (drawn(1, 1, 2, 2).requires_grad_(), drawn(1, 1, 2, 2, seed=4).requires_grad_())
    assert torch.autograd.gradcheck(lambda m, s: logit_laplace(uniform(1, 1, 2, 2), m, s), given)


def test_the_perplexity_of_even_use_is_the_number_of_codes_used() -> None:
    found = code_use(torch.tensor([[[0, 1], [2, 3]]]), 8)
    assert found == {"code_usage": 0.5, "code_perplexity": pytest.approx(4)}


def test_the_perplexity_of_one_code_is_one() -> None:
    assert code_use(torch.full((2, 2, 2), 5), 8)["code_perplexity"] == pytest.approx(1)
