"""LARC against NVIDIA apex's formula (apex/parallel/LARC.py, clip=False), written step by step."""

import pytest
import torch
from torch import Tensor, nn

from ssl_zoo.optim.base import OPTIMIZERS
from tests.optim.problem import LRS, build, gradients, parameters, take_steps

TRUST, EPS, MOMENTUM = 0.02, 1e-3, 0.9


def reference(weights: list[nn.Parameter], n_steps: int, weight_decay: float) -> list[Tensor]:
    """Tensor by tensor, with plain branches: scale gradients, then SGD without weight decay."""
    result = [w.detach().clone() for w in weights]
    buffers: list[Tensor | None] = [None] * len(result)
    for step in range(n_steps):
        for i, g in enumerate(gradients(step)):
            if g is None:
                continue
            w_norm, g_norm = result[i].norm().item(), g.norm().item()
            if w_norm != 0 and g_norm != 0:
                rate = TRUST * w_norm / (g_norm + w_norm * weight_decay + EPS)
                g = (g + weight_decay * result[i]) * rate
            old = buffers[i]
            buffer = g.clone() if old is None else MOMENTUM * old + g
            buffers[i] = buffer
            result[i] -= LRS[step] * buffer
    return result


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_equals_the_formula_step_by_step(fused: bool, weight_decay: float) -> None:
    weights = parameters()
    expected = reference(weights, len(LRS), weight_decay)
    config = {"trust_coefficient": TRUST, "eps": EPS, "weight_decay": weight_decay}
    optimizer = build(weights, {"name": "larc", **config}, fused=fused)
    take_steps(optimizer, weights, range(len(LRS)))
    for one, other in zip(weights, expected, strict=True):
        torch.testing.assert_close(one.detach(), other, rtol=1e-12, atol=1e-14)


def one_step(weight: list[float], gradient: list[float], **settings: float) -> list[float]:
    parameter = nn.Parameter(torch.tensor(weight, dtype=torch.float64))
    optimizer = OPTIMIZERS.build({"name": "larc", **settings}, params=[parameter])
    parameter.grad = torch.tensor(gradient, dtype=torch.float64)
    optimizer.step()
    return parameter.detach().tolist()


def test_equals_a_hand_calculation_for_a_vector_too() -> None:
    # |w| = 5, |g| = 1, ratio = 0.001 * 5 / (1 + 0.1 * 5) = 1 / 300; g + wd w = (1.1, -0.2)
    moved = one_step([3, 4], [0.8, -0.6], lr=3, weight_decay=0.1, eps=0)
    assert moved == pytest.approx([3 - 0.011, 4 + 0.002])


def test_clipping_never_steps_further_than_sgd() -> None:
    # ratio = 0.02 * 5 / 1 = 0.1: over an lr of 0.05 that is 2, cut to 1; over an lr of 1 it is 0.1
    settings = {"trust_coefficient": 0.02, "weight_decay": 0, "eps": 0, "clip": True}
    assert one_step([3, 4], [0.8, -0.6], lr=0.05, **settings) == pytest.approx([2.96, 4.03])
    assert one_step([3, 4], [0.8, -0.6], lr=1, **settings) == pytest.approx([2.92, 4.06])


def test_zero_weights_take_the_raw_gradient() -> None:
    assert one_step([0, 0], [0.6, 0.8], lr=4.8) == pytest.approx([-2.88, -3.84])


def test_zero_gradients_bring_no_weight_decay() -> None:
    assert one_step([3, 4], [0, 0], lr=4.8, weight_decay=0.1) == [3, 4]


def test_defaults_are_those_of_the_recipes() -> None:
    optimizer = OPTIMIZERS.build("larc", params=parameters())
    expected = {"lr": 0.6, "momentum": 0.9, "weight_decay": 1e-6}
    expected |= {"trust_coefficient": 0.001, "eps": 1e-8, "clip": False}
    assert optimizer.defaults == expected


def test_groups_have_settings_of_their_own() -> None:
    free, decayed = (nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64)) for _ in "ab")
    groups = [{"params": [free], "weight_decay": 0.0}, {"params": [decayed]}]
    config = {"name": "larc", "lr": 3, "weight_decay": 0.1, "eps": 0}
    optimizer = OPTIMIZERS.build(config, params=groups)
    for parameter in (free, decayed):
        parameter.grad = torch.tensor([0.8, -0.6], dtype=torch.float64)
    optimizer.step()
    assert free.tolist() == pytest.approx([3 - 0.012, 4 + 0.009])
    assert decayed.tolist() == pytest.approx([3 - 0.011, 4 + 0.002])


def test_momentum_of_zero_keeps_no_buffer() -> None:
    weights = parameters()
    optimizer = build(weights, {"name": "larc", "momentum": 0})
    take_steps(optimizer, weights, range(2))
    assert not optimizer.state
