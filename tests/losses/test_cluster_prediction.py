"""Cluster prediction against loops over equation 1 of DeepCluster, and over ranks."""

import math

import pytest
import torch
from torch import Tensor

from ssl_zoo import distributed
from ssl_zoo.losses.cluster_prediction import (
    ClusterPredictionLoss,
    ClusterPredictionSettings,
    cluster_prediction,
)
from tests.distributed import run_on_ranks

TARGETS = torch.tensor([[0, 3, -100, 1, 2, -100], [4, 4, 1, 0, -100, 2]])


def some_scores(n_views: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n_views * 6, k, generator=generator, dtype=torch.float64) for k in (4, 5)]


def reference(scores: list[Tensor], temperature: float, weights: list[Tensor]) -> Tensor:
    losses = []
    for one, targets, weight in zip(scores, TARGETS, weights, strict=True):
        terms = []
        for row, score in enumerate(one):
            target = int(targets[row % 6])
            if target >= 0:
                p = (score / temperature).exp()
                terms.append(-weight[target] * (p[target] / p.sum()).log())
        losses.append(torch.stack(terms).mean())
    return torch.stack(losses)


@pytest.mark.parametrize("n_views", [1, 2, 5])
def test_equals_a_slow_reference_in_value_and_gradient(n_views: int) -> None:
    scores = [s.requires_grad_() for s in some_scores(n_views)]
    weights = [torch.tensor([1.0, 2, 0, 0.5]), torch.tensor([3.0, 1, 1, 0, 0.2])]
    loss = cluster_prediction(scores, TARGETS, temperature=0.2, weights=weights)
    expected = reference(scores, 0.2, weights)
    torch.testing.assert_close(loss, expected)
    gradients = [torch.autograd.grad(x.mean(), scores) for x in (loss, expected)]
    torch.testing.assert_close(*gradients)


def test_without_weights_all_images_count_equally() -> None:
    scores = some_scores()
    ones = [torch.ones(4), torch.ones(5)]
    torch.testing.assert_close(
        cluster_prediction(scores, TARGETS, temperature=0.1), reference(scores, 0.1, ones)
    )


def test_equal_scores_cost_ln_k() -> None:
    loss = cluster_prediction([torch.zeros(6, 4), torch.zeros(6, 5)], TARGETS)
    torch.testing.assert_close(loss, torch.tensor([math.log(4), math.log(5)]))


def test_a_batch_without_targets_has_no_loss_and_no_gradient() -> None:
    scores = torch.randn(6, 4, requires_grad=True)
    loss = cluster_prediction([scores], torch.full((1, 6), -100))
    (gradient,) = torch.autograd.grad(loss.sum(), scores)
    assert loss.tolist() == [0]
    assert not gradient.any()


def test_the_module_takes_its_temperature_from_its_settings() -> None:
    loss = ClusterPredictionLoss(ClusterPredictionSettings(temperature=0.5))
    expected = cluster_prediction(some_scores(), TARGETS, temperature=0.5)
    assert torch.equal(loss(some_scores(), TARGETS), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_scores_are_summed_in_float32(dtype: torch.dtype) -> None:
    scores = [s.to(dtype) for s in some_scores()]
    with torch.autocast("cpu", torch.bfloat16):
        loss = cluster_prediction(scores, TARGETS)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, cluster_prediction([s.float() for s in scores], TARGETS))


def test_scores_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit targets of shape"):
        cluster_prediction([torch.zeros(7, 4), torch.zeros(7, 5)], TARGETS)


def part() -> tuple[Tensor, Tensor]:
    """Loss and gradient of this rank's images; ranks hold 2 and 3 known ones of the first head."""
    n = 6 // distributed.world_size()
    own = slice(distributed.rank() * n, (distributed.rank() + 1) * n)
    scores = [s.view(3, 6, -1)[:, own].flatten(0, 1).requires_grad_() for s in some_scores()]
    losses = cluster_prediction(scores, TARGETS[:, own])
    (gradient,) = torch.autograd.grad(losses.mean(), scores[:1])
    return losses.detach(), gradient.view(3, n, -1)


@pytest.mark.distributed
def test_ranks_with_different_numbers_of_targets_have_the_mean_of_one_process() -> None:
    losses, gradient = part()
    parts = run_on_ranks(part, 2)
    mean = torch.stack([one for one, _ in parts]).mean(dim=0)
    torch.testing.assert_close(mean, losses, rtol=1e-12, atol=0)
    gathered = torch.cat([one for _, one in parts], dim=1) / 2  # as gradients are averaged
    torch.testing.assert_close(gathered, gradient, rtol=1e-12, atol=1e-15)
