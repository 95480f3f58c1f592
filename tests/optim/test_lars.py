"""LARS against Algorithm 1 of You et al. (2017), written step by step."""

import pytest
import torch
from torch import Tensor, nn

from ssl_zoo.optim.base import OPTIMIZERS
from tests.optim.problem import LRS, build, gradients, parameters, take_steps

TRUST, MOMENTUM, DECAY = 0.02, 0.9, 0.1


def reference(weights: list[nn.Parameter], n_steps: int, exclude_1d: bool) -> list[Tensor]:
    """Tensor by tensor, with plain branches; the learning rate enters the buffer."""
    result = [w.detach().clone() for w in weights]
    buffers = [torch.zeros_like(w) for w in result]
    for step in range(n_steps):
        for i, g in enumerate(gradients(step)):
            if g is None:
                continue
            rate, decay = 1.0, DECAY
            w_norm, g_norm = result[i].norm().item(), g.norm().item()
            if exclude_1d and result[i].ndim == 1:
                decay = 0.0
            elif w_norm != 0 and g_norm != 0:
                rate = TRUST * w_norm / (g_norm + decay * w_norm)
            buffers[i] = MOMENTUM * buffers[i] + LRS[step] * rate * (g + decay * result[i])
            result[i] -= buffers[i]
    return result


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("exclude_1d", [True, False])
def test_equals_the_formula_step_by_step(fused: bool, exclude_1d: bool) -> None:
    weights = parameters()
    expected = reference(weights, len(LRS), exclude_1d)
    config = {"trust_coefficient": TRUST, "weight_decay": DECAY, "exclude_1d": exclude_1d}
    optimizer = build(weights, {"name": "lars", **config}, fused=fused)
    take_steps(optimizer, weights, range(len(LRS)))
    for one, other in zip(weights, expected, strict=True):
        torch.testing.assert_close(one.detach(), other, rtol=1e-12, atol=1e-14)


def one_step(weight: Tensor, gradient: Tensor) -> Tensor:
    parameter = nn.Parameter(weight)
    config = {"name": "lars", "lr": 3, "weight_decay": 0.1}
    optimizer = OPTIMIZERS.build(config, params=[parameter])
    parameter.grad = gradient
    optimizer.step()
    return parameter.detach()


def test_equals_a_hand_calculation() -> None:
    # |w| = 5, |g| = 1, ratio = 0.001 * 5 / (1 + 0.1 * 5) = 1 / 300; g + wd w = (1.1, -0.2)
    moved = one_step(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.8, -0.6]]))
    torch.testing.assert_close(moved, torch.tensor([[2.989, 4.002]]))


def test_vectors_get_neither_ratio_nor_weight_decay() -> None:
    moved = one_step(torch.tensor([3.0, 4.0]), torch.tensor([0.8, -0.6]))
    torch.testing.assert_close(moved, torch.tensor([0.6, 5.8]))
