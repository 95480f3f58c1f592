"""Batch normalisation over ranks, against one process that sees everything."""

import os
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ssl_zoo import distributed
from ssl_zoo.errors import UserError
from ssl_zoo.testing.pretended_gpu import GPU, pretended_gpu
from ssl_zoo.training.sync_batch_norm import GPUSyncBatchNorm, PlainSyncBatchNorm, synchronize
from tests.distributed import run_on_ranks
from tests.training.batch_norm_kernels import kernels_anywhere

CPU = torch.device("cpu")


def make_norm(dims: int, momentum: float | None = 0.1) -> nn.Module:
    torch.manual_seed(0)
    kind = nn.BatchNorm2d if dims == 4 else nn.BatchNorm1d
    norm = kind(3, momentum=momentum)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.bias.uniform_(-1, 1)
    return norm


def make_images(n: int, dims: int) -> Tensor:
    shape = (n, 3, 4, 4) if dims == 4 else (n, 3)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 3 + 5


def weights_of_loss(images: Tensor) -> Tensor:
    """Returns a loss that is no symmetric function, so that gradients are not zero by accident."""
    return torch.linspace(-1, 2, images.numel()).view_as(images)


def normalise(norm: nn.Module, images: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """Takes two training steps and one evaluation; returns all that can be compared."""
    images = images.clone().requires_grad_()
    norm(images.detach() * 0.5 + 1)
    output = norm(images)
    torch.autograd.backward((output * weights).sum())
    found = {"output": output.detach(), "gradient": images.grad}
    found |= {name: p.grad for name, p in norm.named_parameters()}
    found |= {name: buffer.clone() for name, buffer in norm.named_buffers()}
    with torch.no_grad():
        found["evaluated"] = norm.eval()(images)
    return {name: value for name, value in found.items() if value is not None}


def on_this_rank(
    dims: int, part: tuple[int, ...], mode: str | int, momentum: float | None = 0.1
) -> dict[str, Tensor]:
    """Normalises this rank's part of the images; the parts may be of different sizes."""
    images = make_images(sum(part), dims)
    weights = weights_of_loss(images)
    start = sum(part[: distributed.rank()])
    mine = slice(start, start + part[distributed.rank()])
    norm = synchronize(make_norm(dims, momentum), mode, CPU)
    return normalise(norm, images[mine], weights[mine])


def on_this_rank_as_on_a_gpu(
    dims: int, part: tuple[int, ...], momentum: float | None = 0.1
) -> dict[str, Tensor]:
    """Does the same in float64 with the layer for CUDA, and the formulas of its kernels."""
    images = make_images(sum(part), dims).double()
    weights = weights_of_loss(images).double()
    start = sum(part[: distributed.rank()])
    mine = slice(start, start + part[distributed.rank()])
    norm: Any = make_norm(dims, momentum).double()
    norm.__class__ = GPUSyncBatchNorm
    with kernels_anywhere():
        return normalise(norm, images[mine], weights[mine])


CASES: dict[str, tuple[Any, ...]] = {
    "images": (4, (2, 2), "all"),
    "vectors": (2, (4, 4), "all"),
    "unequal parts": (4, (3, 1), "all"),
    "plain average": (4, (2, 2), "all", None),
}
SUMMED = ("weight", "bias")  # of these each rank holds the part that its own images cause
PER_IMAGE = ("output", "gradient", "evaluated")


def everything() -> dict[str, Any]:
    """Returns what all tests on two ranks look at; starting processes takes longer than this."""
    return {
        **{case: on_this_rank(*arguments) for case, arguments in CASES.items()},
        **{
            f"{case} on a GPU": on_this_rank_as_on_a_gpu(dims, part, *momentum)
            for case, (dims, part, _, *momentum) in CASES.items()
        },
        "off": on_this_rank(4, (2, 2), "off"),
        "group of three": refusal_of_three(),
    }


@pytest.fixture(scope="module")
def two_ranks() -> list[dict[str, Any]]:
    return run_on_ranks(everything, 2)


@pytest.mark.distributed
@pytest.mark.parametrize("case", CASES)
def test_normalising_over_ranks_is_normalising_the_whole_batch(
    case: str, two_ranks: list[dict[str, Any]]
) -> None:
    dims, part, _, *momentum = CASES[case]
    images = make_images(sum(part), dims)
    whole = normalise(make_norm(dims, *momentum), images, weights_of_loss(images))
    ranks = [found[case] for found in two_ranks]
    for name in PER_IMAGE:
        together = torch.cat([found[name] for found in ranks])
        torch.testing.assert_close(together, whole[name], rtol=1e-5, atol=1e-5, msg=name)
    for name in SUMMED:
        torch.testing.assert_close(ranks[0][name] + ranks[1][name], whole[name], msg=name)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        for found in ranks:
            torch.testing.assert_close(found[name], whole[name], msg=name)


@pytest.mark.distributed
@pytest.mark.parametrize("case", CASES)
def test_the_layer_for_gpus_normalises_the_whole_batch(
    case: str, two_ranks: list[dict[str, Any]]
) -> None:
    dims, part, _, *momentum = CASES[case]
    images = make_images(sum(part), dims).double()
    norm = make_norm(dims, *momentum).double()
    whole = normalise(norm, images, weights_of_loss(images).double())
    ranks = [found[f"{case} on a GPU"] for found in two_ranks]
    close: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-9}
    for name in PER_IMAGE:
        together = torch.cat([found[name] for found in ranks])
        torch.testing.assert_close(together, whole[name], msg=name, **close)
    for name in SUMMED:
        together = ranks[0][name] + ranks[1][name]
        torch.testing.assert_close(together, whole[name], msg=name, **close)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        for found in ranks:
            torch.testing.assert_close(found[name], whole[name], msg=name, **close)


def test_the_layer_for_gpus_waits_for_nothing_in_half_precision() -> None:
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(288, 6)]
    net: Any = nn.Sequential(*layers, nn.BatchNorm1d(6)).to(memory_format=torch.channels_last)
    for layer in (net[1], net[4]):
        layer.__class__ = GPUSyncBatchNorm
    with kernels_anywhere(), pretended_gpu() as gpu:
        gpu.move(net)
        with torch.autocast("cuda", torch.bfloat16):
            out = net(torch.empty(4, 3, 8, 8, device=GPU))
        assert out.dtype == torch.bfloat16
        out.float().square().sum().backward()
        assert all(p.grad is not None and p.grad.device == GPU for p in net.parameters())
        assert gpu.ledger.waits == []


def test_on_a_gpu_layers_are_those_for_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    norm = synchronize(make_norm(4), "all", GPU)
    assert type(norm) is GPUSyncBatchNorm
    assert norm.state_dict().keys() == nn.BatchNorm2d(3).state_dict().keys()


@pytest.mark.distributed
def test_groups_share_statistics_among_neighbours_alone() -> None:
    images = make_images(8, 4)
    ranks = run_on_ranks(on_this_rank, 4, 4, (2, 2, 2, 2), 2)
    for start in (0, 2):
        mine = slice(2 * start, 2 * start + 4)
        whole = normalise(make_norm(4), images[mine], weights_of_loss(images)[mine])
        together = torch.cat([found["output"] for found in ranks[start : start + 2]])
        torch.testing.assert_close(together, whole["output"], rtol=1e-5, atol=1e-5)


def on_this_rank_of_two_nodes() -> dict[str, Tensor]:
    """Ranks 0 and 2 run on one node, 1 and 3 on the other."""
    os.environ.update(SLURM_JOB_ID="1", SLURMD_NODENAME=f"node{distributed.rank() % 2}")
    return on_this_rank(4, (2, 2, 2, 2), "node")


@pytest.mark.distributed
def test_groups_by_node_share_statistics_within_a_node() -> None:
    images = make_images(8, 4)
    ranks = run_on_ranks(on_this_rank_of_two_nodes, 4)
    for node in (0, 1):
        mine = torch.tensor([2 * node, 2 * node + 1, 2 * node + 4, 2 * node + 5])
        whole = normalise(make_norm(4), images[mine], weights_of_loss(images)[mine])
        together = torch.cat([ranks[node]["output"], ranks[node + 2]["output"]])
        torch.testing.assert_close(together, whole["output"], rtol=1e-5, atol=1e-5)


@pytest.mark.distributed
def test_switched_off_each_rank_normalises_alone(two_ranks: list[dict[str, Any]]) -> None:
    images = make_images(4, 4)
    for rank, found in enumerate(two_ranks):
        mine = slice(2 * rank, 2 * rank + 2)
        alone = normalise(make_norm(4), images[mine], weights_of_loss(images)[mine])
        assert torch.equal(found["off"]["output"], alone["output"])


def refusal_of_three() -> str:
    try:
        synchronize(make_norm(4), 3, CPU)
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.distributed
def test_a_group_that_does_not_divide_the_processes_is_refused(
    two_ranks: list[dict[str, Any]],
) -> None:
    for found in two_ranks:
        assert found["group of three"] == "sync_batch_norm of 3 does not divide the 2 processes"


def test_alone_nothing_is_replaced() -> None:
    assert type(synchronize(make_norm(4), "all", CPU)) is nn.BatchNorm2d


def test_the_plain_version_keeps_the_state_dict() -> None:
    assert PlainSyncBatchNorm(3).state_dict().keys() == nn.BatchNorm2d(3).state_dict().keys()


def test_too_few_dimensions_are_refused() -> None:
    with pytest.raises(ValueError, match=r"needs \(N, C, ...\), not 1 dimensions"):
        PlainSyncBatchNorm(3).eval()(torch.zeros(3))
