"""Networks for images of other than three channels."""

import pytest
import torch
from torch import nn

from ssl_zoo.backbones.base import BACKBONES
from ssl_zoo.backbones.first_layer import adapt_first, adapted, replace_first
from ssl_zoo.config import NamedConfig, identity
from ssl_zoo.errors import UserError
from ssl_zoo.runs.config import run_config


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
@pytest.mark.parametrize(
    "settings",
    [
        {"name": "tiny_resnet"},
        {"name": "resnet18", "stem": "cifar"},
        {"name": "resnet18"},
        {"name": "pixels"},
        {"name": "vit", "width": 16, "depth": 1},
        {"name": "torchvision", "model": "mobilenet_v3_small"},
    ],
    ids=["tiny_resnet", "cifar_resnet", "resnet", "pixels", "vit", "torchvision"],
)
def test_backbones_take_any_number_of_channels(settings: dict[str, object], channels: int) -> None:
    backbone = BACKBONES.build({**settings, "in_channels": channels}).eval()
    assert backbone.in_channels == channels
    assert backbone(torch.rand(2, channels, 32, 32)).shape == (2, backbone.feature_dim)


def test_timm_models_take_any_number_of_channels() -> None:
    pytest.importorskip("timm")
    backbone = BACKBONES.build({"name": "timm", "model": "resnet18", "in_channels": 5}).eval()
    assert backbone(torch.rand(2, 5, 32, 32)).shape == (2, 512)


@pytest.mark.parametrize("channels", [1, 2, 4, 6, 8])
def test_weights_are_adapted_as_timm_does(channels: int) -> None:
    manipulate = pytest.importorskip("timm.models._manipulate")
    weight = torch.rand(8, 3, 3, 3)
    expected = manipulate.adapt_input_conv(channels, weight)
    assert torch.allclose(adapted(weight, channels), expected)


def test_weights_for_the_same_channels_stay() -> None:
    weight = torch.rand(8, 3, 3, 3)
    assert adapted(weight, 3) is weight


def test_only_the_first_layer_is_adapted() -> None:
    three = BACKBONES.build({"name": "tiny_resnet"}).state_dict()
    four = BACKBONES.build({"name": "tiny_resnet", "in_channels": 4})
    found, name = adapt_first(three, four.state_dict())
    assert name == "stem.0.weight"
    four.load_state_dict(found)
    assert torch.equal(found[name], adapted(three[name], 4))
    assert all(torch.equal(found[key], three[key]) for key in three if key != name)


def test_weights_of_another_architecture_are_not_adapted() -> None:
    narrow = BACKBONES.build({"name": "tiny_resnet", "widths": [8]}).state_dict()
    wide = BACKBONES.build({"name": "tiny_resnet", "widths": [16]}).state_dict()
    found, name = adapt_first(narrow, wide)
    assert name is None
    assert found["stem.0.weight"] is narrow["stem.0.weight"]


def test_a_new_first_layer_has_weights_of_the_old_size() -> None:
    net = nn.Sequential(nn.Conv2d(3, 64, 7, bias=True))
    old = net.get_submodule("0")
    assert isinstance(old, nn.Conv2d)
    spread, bias = float(old.weight.detach().std()), old.bias
    new = replace_first(net, 4).get_submodule("0")
    assert isinstance(new, nn.Conv2d)
    assert new.weight.shape == (64, 4, 7, 7)
    assert abs(float(new.weight.detach().std()) / spread - 1) < 0.05
    assert bias is not None
    assert new.bias is not None
    assert torch.equal(new.bias, bias)


def test_a_network_without_such_a_layer_is_refused() -> None:
    with pytest.raises(UserError, match=r"only takes in_channels=3, not 4"):
        replace_first(nn.Sequential(nn.Linear(3, 4)), 4)


def test_three_channels_do_not_change_who_a_network_is() -> None:
    settings: NamedConfig = BACKBONES.config("tiny_resnet")
    assert "in_channels" not in identity(settings)
    assert (
        identity(BACKBONES.config({"name": "tiny_resnet", "in_channels": 4}))["in_channels"] == 4
    )


def test_a_run_says_which_channels_its_backbone_needs() -> None:
    four = "data={name: image_folder, root: x, channels: 4, mean: [0, 0, 0, 0], std: [1, 1, 1, 1]}"
    with pytest.raises(
        UserError, match=r"in_channels=3 differs from data.channels=4; set backbone.in_channels=4"
    ):
        run_config("simclr", overrides=[four])
