"""Layers within a network: the right numbers, pooled, and a list of names for a wrong one."""

import pytest
import torch

from ssl_zoo.backbones.base import BACKBONES, Backbone
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.at_layer import at_layer

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def backbone(settings: object) -> Backbone:
    torch.manual_seed(0)
    built: Backbone = BACKBONES.build(BACKBONES.config(settings))
    return built.eval()


RESNET = "resnet18"


def test_the_pooled_layer_is_the_backbone() -> None:
    network = backbone(RESNET)
    assert at_layer(network, "pooled") is network


def test_the_last_maps_averaged_are_the_pooled_features() -> None:
    network = backbone(RESNET)
    torch.testing.assert_close(at_layer(network, last_stage(network))(IMAGES), network(IMAGES))


def last_stage(network: Backbone) -> str:
    return str(next(name for name, _ in network.named_modules() if name.endswith("layer4")))


def test_an_earlier_stage_is_that_stage_averaged() -> None:
    network = backbone(RESNET)
    name = last_stage(network).replace("layer4", "layer2")
    seen = []
    handle = network.get_submodule(name).register_forward_hook(lambda *a: seen.append(a[2]))
    network(IMAGES)
    handle.remove()
    found = at_layer(network, name)(IMAGES)
    assert found.shape == (2, 128)
    torch.testing.assert_close(found, seen[0].mean((2, 3)))


def test_hooks_do_not_stay() -> None:
    network = backbone(RESNET)
    name = last_stage(network)
    at_layer(network, name)(IMAGES)
    assert not network.get_submodule(name)._forward_hooks


def test_an_unknown_layer_lists_those_there_are() -> None:
    with pytest.raises(UserError, match=r"no layer 'layer9'.*Layers: pooled, .*layer4"):
        at_layer(backbone(RESNET), "layer9")


def test_a_layer_that_runs_often_is_refused() -> None:
    network = backbone(RESNET)
    block = next(name for name, _ in network.named_modules() if name.endswith("layer1.0.relu"))
    with pytest.raises(UserError, match="runs 2 times"):
        at_layer(network, block)(IMAGES)


def test_maps_with_channels_last_are_averaged_over_positions() -> None:
    pytest.importorskip("timm")
    settings = {"name": "timm", "model": "swin_tiny_patch4_window7_224", "image_size": 64}
    network = backbone(settings)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = at_layer(network, "trunk.norm")(images)
        torch.testing.assert_close(found, network(images))
    assert found.shape == (2, 768)
