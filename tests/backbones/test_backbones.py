"""What every registered backbone must do; registering one signs it up for these tests."""

import pytest
import torch

from ssl_zoo.backbones.base import BACKBONES, Backbone, flop_count, parameter_count
from ssl_zoo.backbones.tokenizer import Tokenizer

HEAVY = ("resnet101", "resnet152", "resnet50_w2", "resnet50_w4", "resnet50_w5")
OF_OTHERS = ("timm", "torchvision")  # which take the name of a model; see tests of their own
LIGHT = [name for name in BACKBONES.names() if name not in (*HEAVY, *OF_OTHERS)]


def build(name: str) -> Backbone:
    torch.manual_seed(0)
    return BACKBONES.build(name)


def images(n: int, size: int) -> torch.Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", LIGHT)
def test_features_are_vectors_of_the_length_it_says(name: str) -> None:
    backbone = build(name)
    features = backbone(images(2, 32))
    assert features.shape == (2, backbone.feature_dim)
    assert torch.isfinite(features).all()


@pytest.mark.parametrize("name", [name for name in LIGHT if name != "pixels"])
def test_it_takes_crops_of_other_sizes(name: str) -> None:
    backbone = build(name).eval()
    assert backbone(images(1, 64)).shape == backbone(images(1, 16)).shape


@pytest.mark.parametrize("name", LIGHT)
def test_in_evaluation_an_image_does_not_see_its_batch(name: str) -> None:
    backbone = build(name).eval()
    batch = images(3, 32)
    torch.testing.assert_close(backbone(batch)[:1], backbone(batch[:1]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", LIGHT)
def test_every_parameter_has_a_gradient(name: str) -> None:
    backbone = build(name)
    if parameter_count(backbone):
        torch.autograd.backward(backbone(images(2, 32)).square().sum())
    codes = ("score.", "codebook") if isinstance(backbone, Tokenizer) else ()
    left = [key for key, p in backbone.named_parameters() if p.grad is None]
    assert [key for key in left if not key.startswith(codes)] == []


@pytest.mark.parametrize("name", LIGHT)
def test_equal_seeds_give_equal_weights(name: str) -> None:
    one, other = build(name).state_dict(), build(name).state_dict()
    assert [key for key in one if not torch.equal(one[key], other[key])] == []


@pytest.mark.parametrize("name", [name for name in BACKBONES if name not in OF_OTHERS])
def test_it_can_be_laid_out_without_memory(name: str) -> None:
    with torch.device("meta"):
        backbone = BACKBONES.build(name)
    assert backbone.feature_dim > 0


def test_multiply_adds_of_resnet50_are_those_that_fvcore_states() -> None:
    assert flop_count(build("resnet50"), 224) == pytest.approx(4.1e9, rel=0.02)


def test_counting_leaves_the_mode_as_it_was() -> None:
    backbone = build("tiny_resnet").train()
    assert flop_count(backbone, 32) == 12_367_872
    assert backbone.training


def test_what_cannot_be_traced_has_no_count() -> None:
    class Picky(Backbone):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("not for tracing")

    assert flop_count(Picky(), 32) is None
