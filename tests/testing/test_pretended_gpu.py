"""A pretended GPU takes and refuses what a real one does, and its gradients reach all leaves."""

import pytest
import torch
from torch import nn

from ssl_zoo.testing.pretended_gpu import GPU, pretended_gpu, walk_back


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: object, *gradients: torch.Tensor) -> torch.Tensor:
        return 2 * gradients[0]


def loss_of(net: nn.Sequential, images: torch.Tensor) -> torch.Tensor:
    """A loss whose graph joins, broadcasts, leaves a part out, and calls a function in Python."""
    features: torch.Tensor = Doubled.apply(net(images))
    one, two, _ = features.chunk(3, dim=1)
    loss: torch.Tensor = (one * two + one).square().mean() + features.unbind(0)[0].sum() * 0.1
    return loss


def small_net() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 6)
    return nn.Sequential(*layers).double()


def test_gradients_are_those_of_torch() -> None:
    net, images = small_net(), torch.randn(5, 3, 8, 8, dtype=torch.float64)
    torch.autograd.backward(loss_of(net, images))
    expected = [p.grad for p in net.parameters()]
    net.zero_grad(set_to_none=True)
    walk_back(loss_of(net, images))
    for parameter, gradient in zip(net.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-12, atol=1e-12)


def test_gradients_add_up_over_two_passes() -> None:
    net, images = small_net(), torch.randn(5, 3, 8, 8, dtype=torch.float64)
    walk_back(loss_of(net, images))
    once = [p.grad.clone() for p in net.parameters() if p.grad is not None]
    walk_back(loss_of(net, images))
    for parameter, gradient in zip(net.parameters(), once, strict=True):
        torch.testing.assert_close(parameter.grad, 2 * gradient, rtol=1e-12, atol=1e-12)


def test_a_step_on_the_gpu_gives_gradients_there() -> None:
    net = small_net()
    with pretended_gpu() as gpu:
        gpu.move(net)
        loss = loss_of(net, torch.empty(5, 3, 8, 8, dtype=torch.float64, device=GPU))
        loss.backward()  # type: ignore[no-untyped-call]
        for parameter in net.parameters():
            assert parameter.grad is not None
            assert parameter.grad.device == GPU
            assert parameter.grad.shape == parameter.shape


def test_autocast_computes_in_half_precision() -> None:
    net = small_net().float()
    with pretended_gpu() as gpu:
        gpu.move(net)
        with torch.autocast("cuda", torch.bfloat16):
            assert net(torch.empty(5, 3, 8, 8, device=GPU)).dtype == torch.bfloat16


def test_a_mixture_of_devices_raises() -> None:
    with (
        pretended_gpu(),
        pytest.raises(RuntimeError, match="(two different|at least two) devices"),
    ):
        torch.ones(3, device=GPU) + torch.ones(3)


def test_a_shared_parameter_stays_shared() -> None:
    one = nn.Linear(3, 3)
    two = nn.Linear(3, 3)
    two.weight = one.weight
    with pretended_gpu() as gpu:
        gpu.move(nn.ModuleList([one, two]))
        assert two.weight is one.weight
        assert one.weight.device == GPU


def test_the_cpu_is_real() -> None:
    with pretended_gpu() as gpu:
        torch.empty(3, device=GPU)
        assert (torch.arange(4) + 1).tolist() == [1, 2, 3, 4]
        assert gpu.ledger.waits == []


def test_everything_is_as_before_afterwards() -> None:
    with pretended_gpu():
        pass
    parameter = torch.ones(2, requires_grad=True)
    torch.autograd.backward(parameter.sum())
    assert parameter.grad is not None
    assert torch.ones(2).tolist() == [1, 1]
