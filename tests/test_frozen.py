"""Settings of frozen networks, and the views that these get."""

import pytest
import torch
from torch import Tensor

from ssl_zoo.augmentations.evaluation import EvaluationTransform, normalize
from ssl_zoo.backbones.base import Backbone
from ssl_zoo.config import NamedConfig
from ssl_zoo.frozen import FrozenNetwork, OwnView, frozen_in
from tests.small import tiny_backbone

HERE = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
THERE = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)


def network(mean: tuple[float, ...], std: tuple[float, ...]) -> Backbone:
    backbone = tiny_backbone()
    backbone.transform = EvaluationTransform(image_size=8, resize=8, mean=mean, std=std)
    return backbone


def pixels(size: int = 8) -> Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_a_name_is_enough() -> None:
    assert FrozenNetwork.model_validate("runs/codes").weights == "runs/codes"
    assert FrozenNetwork.model_validate({"name": "a.pth", "format": "timm"}).weights == "a.pth"


def test_the_networks_of_settings_are_found_by_field() -> None:
    class Settings(NamedConfig):
        name: str = "some"
        teacher: FrozenNetwork | None = None
        tokenizer: FrozenNetwork | None = None

    found = frozen_in(Settings.model_validate({"tokenizer": "runs/codes"}))
    assert {name: one.weights for name, one in found.items()} == {"tokenizer": "runs/codes"}


def test_a_view_is_normalised_as_the_network_expects() -> None:
    view = OwnView(network(*THERE), mean=HERE[0], std=HERE[1])
    found = view(normalize(pixels(), *HERE), 8)
    torch.testing.assert_close(found, normalize(pixels(), *THERE))


def test_a_view_of_the_same_normalisation_is_left_alone() -> None:
    images = normalize(pixels(), *HERE)
    assert OwnView(network(*HERE), mean=HERE[0], std=HERE[1])(images, 8) is images


def test_a_view_is_resized() -> None:
    """Half the size, bilinear with antialiasing: a constant stays as it is, corners keep their side."""
    images = torch.ones(1, 3, 8, 8)
    images[:, :, :, 4:] = 3
    found = OwnView(network(*HERE), mean=HERE[0], std=HERE[1])(images, 4)
    assert found.shape == (1, 3, 4, 4)
    assert found[0, 0, 0, 0] == pytest.approx(1)
    assert found[0, 0, 3, 3] == pytest.approx(3)


def test_a_view_in_double_is_seen_in_single() -> None:
    view = OwnView(network(*THERE), mean=HERE[0], std=HERE[1]).double()
    assert view(pixels().double(), 8).dtype == torch.float32
