"""Learning rates and weight decays follow the schedule, as groups ask for it."""

import pytest
import torch
from torch import nn

from ssl_zoo.schedule import Progress, ScheduleConfig
from ssl_zoo.training.rates import Rates


def optimizer(*groups: dict[str, object]) -> torch.optim.SGD:
    made = [{"params": [nn.Parameter(torch.zeros(1))], **group} for group in groups]
    return torch.optim.SGD(made, lr=0.8, weight_decay=0.5)


def at(step: int) -> Progress:
    return Progress(step, 0, 10, 10)


def test_groups_scale_the_rate_or_keep_its_peak() -> None:
    found = optimizer({}, {"lr_scale": 0.1}, {"constant_lr": True})
    rates = Rates(found, ScheduleConfig())
    rates.set(at(5))
    assert rates.lr == pytest.approx(0.4)  # half of a cosine from 0.8 to 0
    assert [group["lr"] for group in found.param_groups] == pytest.approx([0.4, 0.04, 0.8])


def test_a_group_without_weight_decay_keeps_none() -> None:
    found = optimizer({}, {"weight_decay": 0.0})
    rates = Rates(found, ScheduleConfig(final_weight_decay=1.5))
    rates.set(at(0))
    assert [group["weight_decay"] for group in found.param_groups] == [0.5, 0.0]
    rates.set(at(5))
    assert [group["weight_decay"] for group in found.param_groups] == pytest.approx([1.0, 0.0])
