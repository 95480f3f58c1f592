"""The small backbones: raw pixels and the tiny ResNet."""

import pytest
import torch

from ssl_zoo.backbones.base import BACKBONES, parameter_count


def test_pixels_are_the_image_in_order() -> None:
    image = torch.arange(12.0).view(1, 3, 2, 2)
    backbone = BACKBONES.build({"name": "pixels", "image_size": 2})
    assert backbone(image).tolist() == [list(range(12))]
    assert backbone.feature_dim == 12
    assert parameter_count(backbone) == 0


@pytest.mark.parametrize(("stride", "size"), [(1, 32), (2, 16), (4, 8)])
def test_the_stem_of_the_tiny_resnet_has_the_stride_it_is_given(stride: int, size: int) -> None:
    backbone = BACKBONES.build({"name": "tiny_resnet", "widths": [4], "stem_stride": stride})
    assert backbone.get_submodule("stem")(torch.zeros(1, 3, 32, 32)).shape[-1] == size


def test_each_further_stage_of_the_tiny_resnet_halves_the_resolution() -> None:
    backbone = BACKBONES.build({"name": "tiny_resnet", "widths": [4, 8, 16], "stem_stride": 1})
    stages = backbone.get_submodule("stages")
    assert stages(torch.zeros(1, 4, 32, 32)).shape == (1, 16, 8, 8)


def test_the_tiny_resnet_is_tiny() -> None:
    assert parameter_count(BACKBONES.build("tiny_resnet")) == 307_360
