"""What every registered optimizer promises."""

import io

import pytest
import torch

from ssl_zoo.optim.base import OPTIMIZERS
from tests.optim.problem import LRS, build, parameters, take_steps

NAMES = ["adamw", "larc", "lars", "sgd"]


def test_all_are_registered() -> None:
    assert set(NAMES) <= set(OPTIMIZERS.names())


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_is_an_optimizer_that_knows_its_peak_rate(name: str) -> None:
    optimizer = build(parameters(), {"name": name, "lr": 0.25})
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert optimizer.defaults["lr"] == 0.25
    assert optimizer.param_groups[0]["lr"] == 0.25
    assert optimizer.param_groups[0]["lr_scale"] == 1.0


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_resumes_bit_by_bit_from_a_file_without_pickled_code(name: str) -> None:
    weights = parameters()
    optimizer = build(weights, {"name": name})
    take_steps(optimizer, weights, range(2))
    file = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "weights": weights}, file)
    take_steps(optimizer, weights, range(2, len(LRS)))

    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed = [torch.nn.Parameter(w.detach()) for w in saved["weights"]]
    again = build(resumed, {"name": name})
    again.load_state_dict(saved["optimizer"])
    take_steps(again, resumed, range(2, len(LRS)))
    for one, other in zip(weights, resumed, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_a_parameter_without_gradient_stays_though_it_has_momentum(name: str) -> None:
    weights = parameters()
    optimizer = build(weights, {"name": name, "weight_decay": 0.1})
    take_steps(optimizer, weights, range(2))
    before = weights[1].detach().clone()
    state = {key: value.clone() for key, value in optimizer.state[weights[1]].items()}
    weights[1].grad = None
    optimizer.step()
    assert torch.equal(weights[1], before)
    for key, value in optimizer.state[weights[1]].items():
        assert torch.equal(value, state[key])


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_gradients_are_left_as_they_are(name: str) -> None:
    weights = parameters()
    optimizer = build(weights, {"name": name, "weight_decay": 0.1})
    gradient = torch.ones_like(weights[0])
    weights[0].grad = gradient
    optimizer.step()
    assert torch.equal(gradient, torch.ones_like(gradient))


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_a_closure_gives_loss_and_gradients(name: str) -> None:
    weight = torch.nn.Parameter(torch.ones(2, 2))
    optimizer = build([weight], {"name": name})

    def closure() -> torch.Tensor:
        loss = (weight**2).sum()
        (weight.grad,) = torch.autograd.grad(loss, weight)
        return loss

    assert optimizer.step(closure) == 4  # type: ignore[arg-type]
    assert weight.detach().lt(1).all()
