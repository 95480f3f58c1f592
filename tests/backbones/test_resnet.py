"""ResNets: sizes that are known, weights that go both ways, and the stem for small images."""

import pytest
import torch
import torchvision.models
from torch import nn

from ssl_zoo.backbones.base import BACKBONES, Backbone, parameter_count

# torchvision's counts without their classifiers of 1000 classes; the wide ones are those of the
# networks in facebookresearch/swav, src/resnet50.py, without heads.
PARAMETERS = {
    "resnet18": 11_176_512,
    "resnet34": 21_284_672,
    "resnet50": 23_508_032,
    "resnet101": 42_500_160,
    "resnet152": 58_143_808,
    "resnet50_w2": 93_907_072,
    "resnet50_w4": 375_378_176,
    "resnet50_w5": 586_450_240,
}


def laid_out(name: str, **settings: object) -> Backbone:
    """Builds a network without the memory of its weights."""
    with torch.device("meta"):
        return BACKBONES.build({"name": name, **settings})


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_as_many_as_is_known(name: str) -> None:
    assert parameter_count(laid_out(name)) == PARAMETERS[name]


@pytest.mark.parametrize(
    ("name", "dim"),
    [("resnet18", 512), ("resnet34", 512), ("resnet152", 2048), ("resnet50_w2", 4096)],
)
def test_features_are_as_long_as_the_last_stage_is_wide(name: str, dim: int) -> None:
    assert laid_out(name).feature_dim == dim


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"])
def test_the_state_dict_is_torchvisions_without_the_classifier(name: str) -> None:
    with torch.device("meta"):
        theirs = getattr(torchvision.models, name)().state_dict()
    ours = laid_out(name).get_submodule("trunk").state_dict()
    expected = {key: value.shape for key, value in theirs.items() if not key.startswith("fc.")}
    assert {key: value.shape for key, value in ours.items()} == expected


def test_weights_of_torchvision_give_torchvisions_features() -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18()
    theirs.fc = nn.Identity()
    ours = BACKBONES.build("resnet18")
    ours.get_submodule("trunk").load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(ours.eval()(x), theirs.eval()(x))


def test_every_layer_of_a_wide_resnet_is_wider() -> None:
    """torchvision's `wide_resnet50_2` widens the inner convolutions alone; this is another network."""
    narrow, wide = (laid_out(name).state_dict() for name in ("resnet50", "resnet50_w2"))
    assert narrow.keys() == wide.keys()
    for key, value in narrow.items():
        if value.dim() == 4:
            inputs = value.shape[1] * (1 if key == "trunk.conv1.weight" else 2)
            assert tuple(wide[key].shape[:2]) == (2 * value.shape[0], inputs), key


@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
def test_the_stem_for_small_images_keeps_their_resolution(stem: str) -> None:
    backbone = BACKBONES.build({"name": "resnet18", "stem": stem})
    seen: dict[str, int] = {}
    trunk = backbone.get_submodule("trunk")
    trunk.get_submodule("layer1").register_forward_pre_hook(
        lambda module, inputs: seen.update(size=inputs[0].shape[-1])
    )
    backbone(torch.zeros(2, 3, 32, 32))
    assert seen["size"] == {"imagenet": 8, "cifar": 32}[stem]


def test_the_stem_for_small_images_is_one_3x3_convolution() -> None:
    weights = laid_out("resnet18", stem="cifar").state_dict()
    assert weights["trunk.conv1.weight"].shape == (64, 3, 3, 3)
    assert parameter_count(laid_out("resnet18", stem="cifar")) == 11_176_512 - 64 * 3 * (49 - 9)


@pytest.mark.parametrize(("zero", "value"), [(False, 1.0), (True, 0.0)])
def test_residual_branches_start_at_zero_where_asked(zero: bool, value: float) -> None:
    backbone = BACKBONES.build({"name": "resnet18", "zero_init_residual": zero})
    last = backbone.get_parameter("trunk.layer1.0.bn2.weight")
    assert set(last.tolist()) == {value}


def test_cost_is_stated_at_the_size_that_the_stem_is_made_for() -> None:
    assert laid_out("resnet18").usual_image_size == 224
    assert laid_out("resnet18", stem="cifar").usual_image_size == 32
