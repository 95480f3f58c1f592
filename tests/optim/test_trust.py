"""Layer-wise updates as on a GPU equal those on the CPU, and heed a loss scaler without reading it."""

import copy
import io

import pytest
import torch

from ssl_zoo.optim import trust
from ssl_zoo.optim.trust import LayerwiseOptimizer
from ssl_zoo.testing.pretended_gpu import GPU, pretended_gpu
from tests.optim.problem import LRS, build, gradients, parameters, take_steps

NAMES = ["larc", "lars"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("small", [0, 6, 1000])
def test_large_and_small_tensors_are_scaled_alike(
    name: str, small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also tensors in channels-last format, whose elements lie in another order."""
    monkeypatch.setattr(trust, "_SMALL", small)
    expected, weights = parameters(), parameters()
    for each in (expected, weights):
        each[1].data = each[1].data.contiguous(memory_format=torch.channels_last)
    config = {"name": name, "weight_decay": 0.1}
    for each, fused in ((expected, False), (weights, True)):
        optimizer = build(each, config, fused=fused)
        for step in range(len(LRS)):
            for weight, gradient in zip(each, gradients(step), strict=True):
                # Laid out as the weight, as torch does.
                weight.grad = (
                    None if gradient is None else torch.empty_like(weight).copy_(gradient)
                )
            optimizer.step()
    for one, other in zip(weights, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_float32_equals_the_cpu_to_its_last_digits(name: str, momentum: float) -> None:
    expected, weights = ([torch.nn.Parameter(w.float()) for w in parameters()] for _ in "ab")
    for each, fused in ((expected, False), (weights, True)):
        optimizer = build(
            each, {"name": name, "weight_decay": 0.1, "momentum": momentum}, fused=fused
        )
        for step in range(len(LRS)):
            for weight, gradient in zip(each, gradients(step), strict=True):
                weight.grad = None if gradient is None else gradient.float()
            optimizer.step()
    for one, other in zip(weights, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=5e-7, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_a_scaled_gradient_is_scaled_back(name: str) -> None:
    expected, weights = parameters(), parameters()
    for each, scale in ((expected, None), (weights, 1024.0)):
        optimizer = build(each, {"name": name, "weight_decay": 0.1}, fused=True)
        assert isinstance(optimizer, LayerwiseOptimizer)
        for weight, gradient in zip(each, gradients(2), strict=True):
            weight.grad = gradient if gradient is None or scale is None else gradient * scale
        optimizer.grad_scale = None if scale is None else torch.tensor(scale)
        optimizer.found_inf = torch.zeros(())
        optimizer.step()
    for one, other in zip(weights, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", NAMES)
def test_a_gradient_that_is_not_finite_changes_nothing(name: str) -> None:
    weights = parameters()
    optimizer = build(weights, {"name": name, "weight_decay": 0.1}, fused=True)
    assert isinstance(optimizer, LayerwiseOptimizer)
    take_steps(optimizer, weights, range(2))
    before = [w.detach().clone() for w in weights]
    state = copy.deepcopy(optimizer.state_dict())["state"]
    assert weights[0].grad is not None
    weights[0].grad[0, 0] = torch.inf
    optimizer.found_inf = torch.ones(())
    optimizer.step()
    for one, other in zip(weights, before, strict=True):
        assert torch.equal(one, other)
    for number, kept in optimizer.state_dict()["state"].items():
        assert torch.equal(kept["momentum_buffer"], state[number]["momentum_buffer"])


@pytest.mark.parametrize("name", NAMES)
def test_a_state_of_the_cpu_continues_on_a_gpu(name: str) -> None:
    expected, weights = parameters(), parameters()
    config = {"name": name, "weight_decay": 0.1}
    take_steps(build(expected, config), expected, range(len(LRS)))
    first = build(weights, config)
    take_steps(first, weights, range(2))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = build(weights, config, fused=True)
    second.load_state_dict(torch.load(file, weights_only=True))
    take_steps(second, weights, range(2, len(LRS)))
    for one, other in zip(weights, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("name", "most"), [("larc", 20), ("lars", 21), ("sgd", 1), ("adamw", 4)])
def test_a_step_on_a_gpu_takes_few_kernels_however_many_tensors(name: str, most: int) -> None:
    with pretended_gpu() as gpu:
        weights = [torch.nn.Parameter(gpu.tensor(w)) for w in 20 * parameters()]
        optimizer = build(weights, {"name": name})
        for _ in range(2):  # the first makes buffers
            for weight in weights:
                weight.grad = gpu.tensor(weight)
            gpu.ledger.clear()
            optimizer.step()
        assert gpu.ledger.launches <= most
        assert gpu.ledger.waits == []


@pytest.mark.parametrize("name", [*NAMES, "sgd", "adamw"])
def test_a_loss_scaler_reads_nothing(name: str) -> None:
    with pretended_gpu() as gpu:
        weights = [torch.nn.Parameter(gpu.tensor(w.float())) for w in parameters()]
        optimizer = build(weights, {"name": name})
        scaler = torch.amp.GradScaler("cuda")
        for _ in range(2):
            scaler.scale(torch.empty((), device=GPU))
            for weight in weights:
                weight.grad = gpu.tensor(weight)
            gpu.ledger.clear()
            scaler.step(optimizer)
            scaler.update()
        assert gpu.ledger.reads == []
