"""Activation checkpointing keeps gradients, statistics and names, and saves memory for activations."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ssl_zoo.backbones.base import BACKBONES, Backbone
from ssl_zoo.errors import UserError
from ssl_zoo.runs.config import run_config
from ssl_zoo.training.recompute import blocks_in, recompute_blocks

NETS: list[tuple[dict[str, Any], int]] = [
    ({"name": "tiny_resnet", "widths": [8, 16], "stem_stride": 2}, 2),
    ({"name": "resnet18", "stem": "cifar"}, 8),
    ({"name": "vit", "width": 16, "depth": 3, "heads": 2}, 3),
]


def build(config: dict[str, Any]) -> Backbone:
    torch.manual_seed(0)
    return BACKBONES.build(config).double().train()


def step(net: nn.Module) -> dict[str, Tensor]:
    """Returns gradients and buffers after two passes of one backward pass, as with two sizes of views."""
    images = torch.randn(
        3, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    features = torch.cat([net(images), net(images.flip(3) * 2)])
    torch.autograd.backward(
        (features * torch.linspace(-1, 2, features.numel()).view_as(features)).sum()
    )
    found = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
    return {**found, **dict(net.named_buffers())}


@pytest.mark.parametrize(("config", "n_blocks"), NETS)
def test_gradients_and_statistics_stay_the_same(config: dict[str, Any], n_blocks: int) -> None:
    plain, saving = build(config), build(config)
    assert recompute_blocks(saving) == n_blocks
    assert saving.state_dict().keys() == plain.state_dict().keys()
    expected, found = step(plain), step(saving)
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-12, atol=1e-14, msg=name)


def test_less_is_kept_for_the_backward_pass() -> None:
    kept = []
    for saves in (False, True):
        net, bytes_of = build({"name": "resnet18", "stem": "cifar"}), dict[int, int]()
        if saves:
            recompute_blocks(net)

        def pack(tensor: Tensor, seen: dict[int, int] = bytes_of) -> Tensor:
            storage = tensor.untyped_storage()
            seen[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            net(torch.randn(2, 3, 32, 32, dtype=torch.float64))
        weights = {p.untyped_storage().data_ptr() for p in net.parameters()}
        kept.append(sum(n for place, n in bytes_of.items() if place not in weights))
    assert kept[1] < kept[0] / 3


def test_a_copy_recomputes_its_own_blocks() -> None:
    net = build(NETS[0][0])
    recompute_blocks(net)
    other = copy.deepcopy(net)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    assert net(images).abs().sum() > 0
    assert other(images).abs().sum() == 0


def test_of_lists_within_lists_the_innermost_are_blocks() -> None:
    stage = nn.Module()
    stage.blocks = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net = nn.Module()
    net.stages = nn.Sequential(stage)
    assert blocks_in(net) == list(stage.blocks)


def test_a_backbone_without_known_blocks_is_refused() -> None:
    with pytest.raises(
        UserError, match="needs a backbone with blocks named .* Sequential has none"
    ):
        recompute_blocks(nn.Sequential(nn.Linear(2, 2)))


def test_it_is_not_part_of_what_defines_a_run() -> None:
    settings = ["checkpoint_activations=true", "compile=true", "deterministic=true"]
    assert run_config("swav", overrides=settings).digest() == run_config("swav").digest()


def test_a_norm_that_does_not_learn_statistics_keeps_its_count() -> None:
    net = build(NETS[0][0])
    recompute_blocks(net)
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms[1:]:
        norm.eval()
    step(net)
    assert [int(norm.state_dict()["num_batches_tracked"]) for norm in norms] == [
        2,
        *[0] * (len(norms) - 1),
    ]
