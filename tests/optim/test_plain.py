"""SGD and AdamW against torch's."""

import pytest
import torch

from ssl_zoo.optim.base import OPTIMIZERS
from tests.optim.problem import LRS, build, parameters, take_steps


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_that_of_torch(nesterov: bool) -> None:
    ours, theirs = parameters(), parameters()
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "nesterov": nesterov}
    take_steps(build(ours, {"name": "sgd", **settings}), ours, range(len(LRS)))
    take_steps(torch.optim.SGD(theirs, **settings), theirs, range(len(LRS)))  # type: ignore[arg-type]
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one, other)


def test_sgd_with_momentum_equals_a_hand_calculation() -> None:
    # m = 1 + 0.1 * 2 = 1.2, w = 2 - 0.5 * 1.2 = 1.4; m = 0.9 * 1.2 + 1.14 = 2.22, w = 1.4 - 1.11
    weight = torch.nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    config = {"name": "sgd", "lr": 0.5, "momentum": 0.9, "weight_decay": 0.1}
    optimizer = OPTIMIZERS.build(config, params=[weight])
    for expected in (1.4, 0.29):
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        assert weight.item() == pytest.approx(expected)


def test_adamw_is_that_of_torch() -> None:
    ours, theirs = parameters(), parameters()
    config = {"name": "adamw", "lr": 0.1, "beta1": 0.8, "beta2": 0.99, "weight_decay": 0.3}
    take_steps(build(ours, {**config, "exclude_1d": False}), ours, range(len(LRS)))
    optimizer = torch.optim.AdamW(theirs, lr=0.1, betas=(0.8, 0.99), weight_decay=0.3)
    take_steps(optimizer, theirs, range(len(LRS)))
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_biases_and_norms_can_go_without_weight_decay(name: str) -> None:
    layer = torch.nn.Linear(3, 2)
    config = {"name": name, "weight_decay": 0.3, "exclude_1d": True}
    groups = OPTIMIZERS.build(config, params=[{"params": layer.parameters(), "lr_scale": 2.0}])
    found = [(g["weight_decay"], g["lr_scale"], len(g["params"])) for g in groups.param_groups]
    assert found == [(0.3, 2.0, 1), (0.0, 2.0, 1)]


def test_nesterov_without_momentum_is_refused() -> None:
    with pytest.raises(ValueError, match="nesterov needs a momentum above 0"):
        OPTIMIZERS.build({"name": "sgd", "momentum": 0, "nesterov": True}, params=parameters())
