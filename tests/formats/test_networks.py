"""Which network a state dict is of, told from names and shapes alone."""

import pytest
import torch
from torchvision import models

from ssl_zoo.backbones.base import BACKBONES
from ssl_zoo.formats.networks import DEPTHS, INNER, is_network, read_network, to_imported

WIDE = ["resnet50_w2", "resnet50_w4", "resnet50_w5"]


@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
@pytest.mark.parametrize("name", [*DEPTHS.values(), *WIDE])
def test_depth_width_and_stem_of_a_resnet_are_reported(name: str, stem: str) -> None:
    with torch.device("meta"):
        state = BACKBONES.build({"name": name, "stem": stem}).state_dict()
    plain = {key.removeprefix("trunk."): tensor for key, tensor in state.items()}
    network = read_network(plain, what="x")
    assert network.settings == {"name": name, "stem": stem}
    assert network.weights.keys() == state.keys()


@pytest.mark.parametrize(
    "settings", [{"name": "resnet18"}, {"name": "vit", "width": 64, "heads": 1}]
)
def test_channels_are_those_of_the_first_layer(settings: dict[str, object]) -> None:
    with torch.device("meta"):
        state = BACKBONES.build({**settings, "in_channels": 5}).state_dict()
    plain = {key.removeprefix("trunk."): tensor for key, tensor in state.items()}
    network = read_network(plain, what="x")
    assert network.settings["in_channels"] == 5
    assert to_imported(network, {}).normalisation is None


@pytest.mark.parametrize("name", INNER.values())
def test_wider_and_grouped_networks_of_torchvision_are_reported(name: str) -> None:
    with torch.device("meta"):
        state = models.get_model(name).state_dict()
        backbone = BACKBONES.build(f"torchvision:{name}")
    network = read_network(state, what="x")
    assert is_network(state)
    assert network.settings == {"name": "torchvision", "model": name}
    assert network.weights.keys() == backbone.state_dict().keys()
    assert list(network.classifier) == ["fc.weight", "fc.bias"]


@pytest.mark.parametrize(
    ("name", "heads"), [("vit_b_16", 12), ("vit_b_32", 12), ("vit_l_16", 16), ("vit_h_14", 16)]
)
def test_sizes_of_a_transformer_are_reported(name: str, heads: int) -> None:
    with torch.device("meta"):
        source = models.get_model(name)
        settings = read_network(source.state_dict(), what="x").settings
    layer = source.encoder.layers[0]
    assert settings["heads"] == heads == layer.self_attention.num_heads
    assert settings["image_size"] == source.image_size
    assert settings["patch_size"] == source.patch_size
    assert settings["depth"] == len(source.encoder.layers)
    assert settings["mlp_ratio"] * source.hidden_dim == layer.mlp[0].out_features


def test_every_network_of_torchvision_that_is_recognised_can_be_read() -> None:
    for name in ("resnet18", "resnet50", "resnext50_32x4d", "vit_b_16", "convnext_tiny", "swin_t"):
        with torch.device("meta"):
            state = models.get_model(name).state_dict()
        assert is_network(state) == (not name.startswith(("convnext", "swin")))
