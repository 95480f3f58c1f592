"""Networks are built in memory bounded by the weights that they are for."""

import pytest
import torch
from torch import nn

from ssl_zoo.errors import UserError
from ssl_zoo.weights.bounded import SPARE, built_for, check_finite, held_values


def test_the_network_is_built_with_real_weights() -> None:
    built = built_for({}, lambda: nn.Linear(3, 2), what="x")
    assert built.weight.device.type == "cpu"
    assert bool(built.weight.isfinite().all())


def test_a_network_that_needs_values_is_bounded_while_it_is_built() -> None:
    def build() -> nn.Module:
        n = int(torch.tensor(2**20, device="cpu") + int(torch.zeros(()).item()))
        return nn.Linear(n, n)

    with pytest.raises(UserError, match="'x' asks for a network far larger than the 5 values"):
        built_for({"a": torch.zeros(5)}, build, what="x")


def test_random_numbers_are_those_of_building_without_a_bound() -> None:
    torch.manual_seed(0)
    expected = nn.Linear(3, 2).weight
    torch.manual_seed(0)
    assert torch.equal(built_for({}, lambda: nn.Linear(3, 2), what="x").weight, expected)


def test_values_that_are_repeated_or_shared_count_once() -> None:
    one = torch.zeros(4)
    assert held_values([one.expand(1000, 4)]) <= 16  # at least a byte each
    assert held_values([one, one.view(2, 2)]) <= 8 + 8
    assert held_values([torch.zeros(2, 3)]) == 6
    assert SPARE < 2**30


def test_masks_may_be_infinite_and_weights_may_not() -> None:
    infinite = torch.tensor([1.0, float("inf")])
    check_finite("x", {"a": torch.ones(2)}, {"mask": infinite, "count": torch.tensor(1)})
    with pytest.raises(UserError, match="weights of 'x' are not finite in a: its training"):
        check_finite("x", {"a": infinite}, {})
