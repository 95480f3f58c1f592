"""Patch features: which vectors of a layer, and in which order."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from ssl_zoo.backbones.base import BACKBONES, Backbone
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.at_layer import POOLED, at_layer
from ssl_zoo.evaluation.patches import Patches, PatchShape

VIT = {"name": "vit", "image_size": 8, "patch_size": 4, "width": 8, "depth": 2, "heads": 2}
CPU = torch.device("cpu")


class Flat(Backbone):
    """A network without maps or tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Flatten()

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images) + 1  # type: ignore[no-any-return]


def build(settings: object) -> Backbone:
    torch.manual_seed(0)
    backbone: Backbone = BACKBONES.build(BACKBONES.config(settings))
    return backbone.eval()


def images(size: int) -> Tensor:
    return torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1))


def test_the_mean_of_a_map_is_the_feature_of_its_layer() -> None:
    backbone = build({"name": "tiny_resnet", "widths": [8, 16], "stem_stride": 1})
    layer = "stages.0"
    network = Patches(backbone, layer)
    shape = network.shape(8, CPU)
    assert shape.grid is not None
    found = network(images(8)).view(3, shape.n_patches, shape.dim)
    torch.testing.assert_close(found.mean(1), at_layer(backbone, layer)(images(8)))


@pytest.mark.parametrize("positions", ["learnt", "rotary", "shared_relative"])
def test_patches_are_found_behind_the_first_tokens(positions: str) -> None:
    settings = {"name": "released_vit", "image_size": 8, "positions": positions}
    settings |= {"registers": 0 if positions.endswith("relative") else 2}
    backbone: Any = build(settings)
    network = Patches(backbone, POOLED)
    assert network.shape(8, CPU) == PatchShape(4, 64, (2, 2))
    expected = backbone.tokens(images(8))[:, -4:]
    torch.testing.assert_close(network(images(8)), expected.flatten(1))


def test_positions_of_a_map_are_in_reading_order() -> None:
    backbone = build(VIT)
    network = Patches(backbone, "trunk.conv_proj")
    assert network.shape(12, CPU) == PatchShape(9, 8, (3, 3))
    convolution: Any = backbone.get_submodule("trunk.conv_proj")
    found = network(images(12)).view(3, 3, 3, 8)
    patch = images(12)[:, :, 4:8, 8:12]  # row 1, column 2
    expected = functional.conv2d(patch, convolution.weight, convolution.bias, stride=4)
    torch.testing.assert_close(found[:, 1, 2], expected.flatten(1))


def test_tokens_are_those_of_patches_without_the_class_token() -> None:
    backbone = build({**VIT, "pooling": "mean"})
    network = Patches(backbone, POOLED)
    assert network.shape(8, CPU) == PatchShape(4, 8, (2, 2))
    with torch.inference_mode():
        found = network(images(8)).view(3, 4, 8)
        torch.testing.assert_close(found.mean(1), backbone(images(8)))


def test_tokens_of_a_layer_lack_the_class_token_too() -> None:
    backbone = build(VIT)
    last = Patches(backbone, "trunk.encoder.ln")
    with torch.inference_mode():
        torch.testing.assert_close(last(images(8)), Patches(backbone, POOLED)(images(8)))


def test_an_output_of_one_vector_has_no_patches() -> None:
    backbone = build("tiny_resnet")
    with pytest.raises(UserError, match=r"one vector per image, without patches; .* --layer"):
        Patches(backbone, POOLED).shape(32, CPU)


def test_a_layer_of_one_vector_has_no_patches() -> None:
    with pytest.raises(UserError, match="'inner' returns one vector per image"):
        Patches(Flat(), "inner").shape(8, CPU)


def test_an_unknown_layer_is_named() -> None:
    with pytest.raises(UserError, match="no layer 'trunk.layr'"):
        Patches(build(VIT), "trunk.layr")


def test_a_layer_on_top_of_the_backbone_has_no_patches() -> None:
    with pytest.raises(UserError, match="'head.0' is computed from the pooled feature"):
        Patches(build(VIT), "head.0")
