"""Views of images that do not have three channels of 8 bits."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from ssl_zoo.augmentations import random
from ssl_zoo.augmentations.base import AUGMENTATIONS
from ssl_zoo.augmentations.color import adjust_, turn_hue_smoothly_
from ssl_zoo.augmentations.multicrop import MultiCrop
from ssl_zoo.augmentations.render import render
from ssl_zoo.errors import UserError
from ssl_zoo.runs.config import run_config

NO_COLOURS = {"color_jitter": {"saturation": 0, "hue": 0}, "grayscale": 0}
FOUR = (
    "data={name: image_folder, root: x, channels: 4, mean: [0, 0, 0, 0], std: [1, 1, 1, 1]}",
    "backbone.in_channels=4",
)


def build(**settings: Any) -> MultiCrop:
    crops = [{"size": 16, "count": 2, "scale": [0.3, 1]}]
    found = AUGMENTATIONS.build({"name": "multicrop", "crops": crops, **settings})
    assert isinstance(found, MultiCrop)
    return found


def views(images: Tensor | list[Tensor], augmentation: MultiCrop) -> Tensor:
    keys = random.sample_keys(0, 0, torch.arange(len(images)))
    sizes = torch.tensor([image.shape[1:] for image in images])
    return augmentation.apply(images, augmentation.draw(sizes, keys))[0]


def noise(n: int, channels: int, side: int = 24) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, channels, side, side), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_views_have_the_channels_of_the_images(channels: int) -> None:
    found = views(noise(5, channels), build(**NO_COLOURS))
    assert (found.shape, found.dtype) == ((2, 5, channels, 16, 16), torch.uint8)


@pytest.mark.parametrize("listed", [False, True])
def test_float_views_are_those_of_8_bits_without_rounding(listed: bool) -> None:
    """Each rounding is half a step or less; contrast, blur and solarisation round several times."""
    whole = noise(40, 4)
    exact = whole.float() / 255
    augmentation = build(**NO_COLOURS, solarize=0)
    rounded = views(list(whole) if listed else whole, augmentation).float() / 255
    found = views(list(exact) if listed else exact, augmentation)
    assert found.dtype == torch.float32
    assert float((found - rounded).abs().mean()) < 1.5 / 255
    assert float((found - rounded).abs().max()) < 8 / 255


def test_float_views_of_three_colours_are_those_of_8_bits_but_for_rounding() -> None:
    """Pillow rounds hue and saturation to 8 bits, too."""
    whole = noise(40, 3)
    rounded = views(whole, build(blur={"probability": 0}, solarize=0)).float() / 255
    found = views(whole.float() / 255, build(blur={"probability": 0}, solarize=0))
    assert float((found - rounded).abs().mean()) < 2.5 / 255


def test_float_views_stay_between_0_and_1() -> None:
    found = views((noise(20, 4) > 127).float(), build(**NO_COLOURS, solarize=0.5))
    assert (float(found.min()), float(found.max())) == (0, 1)


def test_values_of_16_bits_are_not_rounded_to_8() -> None:
    fine = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0)) / 255
    found = views(fine, build(**NO_COLOURS))
    assert len(set(found.flatten().tolist())) > 100


def test_smooth_hue_is_torchvisions() -> None:
    images = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    images[0, :, 0] = 0.5  # grey has no hue
    for turn in (-0.5, -0.2, 0.1, 0.45):
        planes = (images * 255).transpose(0, 1).clone()
        found = turn_hue_smoothly_(planes, torch.full((6, 1, 1), turn)).transpose(0, 1) / 255
        assert torch.allclose(found, F.adjust_hue(images, turn), atol=1e-5)


@pytest.mark.parametrize("factor", [0.3, 1.7])
def test_contrast_of_one_channel_is_torchvisions(factor: float) -> None:
    images = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    one, none = torch.ones(5, 1, 1), torch.zeros(5, 1, 1)
    planes = (images * 255).transpose(0, 1).clone()
    found = adjust_(planes, factor * one, contrast=one, saturation=none, rounded=False)
    assert torch.allclose(
        found.transpose(0, 1) / 255, F.adjust_contrast(images, factor), atol=1e-5
    )


def test_contrast_of_four_channels_is_that_of_each_alone() -> None:
    planes = noise(3, 4).transpose(0, 1).float()
    one, none = torch.ones(3, 1, 1), torch.zeros(3, 1, 1)
    alone = [
        adjust_(planes[c : c + 1].clone(), 1.5 * one, contrast=one, saturation=none)
        for c in range(4)
    ]
    found = adjust_(planes.clone(), 1.5 * one, contrast=one, saturation=none)
    assert torch.equal(found, torch.cat(alone))


def test_a_channel_is_dropped_from_views_with_the_given_probability() -> None:
    images = noise(400, 4) // 2 + 100
    found = views(images, build(**NO_COLOURS, channel_drop=0.3, solarize=0))
    dropped = (found == 0).all(dim=(-1, -2))  # (V, B, C)
    counts = dropped.sum(-1)
    assert int(counts.max()) == 1
    assert math.isclose(float(counts.float().mean()), 0.3, abs_tol=0.05)
    per_channel = dropped.float().mean((0, 1))
    assert torch.allclose(per_channel, torch.full((4,), 0.075), atol=0.03)


def test_without_channel_drop_nothing_else_changes() -> None:
    keys = random.sample_keys(0, 0, torch.arange(50))
    sizes = torch.full((50, 2), 24)
    with_drop = build(channel_drop=0.5).draw(sizes, keys)[16]
    without = build().draw(sizes, keys)[16]
    assert torch.equal(with_drop.box, without.box)
    assert torch.equal(with_drop.factors, without.factors)
    assert (without.drop == -1).all()


@pytest.mark.parametrize("settings", [{"grayscale": 1}, {"grayscale": 0}])
def test_colours_of_four_channels_are_refused(settings: dict[str, Any]) -> None:
    augmentation = build(**settings)
    drawn = augmentation.draw(torch.full((8, 2), 24), random.sample_keys(0, 0, torch.arange(8)))
    with pytest.raises(ValueError, match="need three channels, not 4"):
        render(noise(8, 4), drawn[16], size=16)


def test_a_run_names_each_setting_that_needs_three_colours() -> None:
    with pytest.raises(UserError) as refused:
        run_config(
            "simclr",
            overrides=[
                *FOUR,
                "augmentation.color_jitter={hue: 0.1, saturation: 0}",
                "augmentation.crops=[{size: 16, count: 2, scale: [0.3, 1], grayscale: 0.5}]",
            ],
        )
    assert str(refused.value).endswith(
        "augmentation.color_jitter.hue=0.1, augmentation.crops.0.grayscale=0.5 need three colours; "
        "set each to 0 for data.channels=4"
    )


def test_a_jitter_that_never_happens_needs_no_colours() -> None:
    never = "augmentation.color_jitter={probability: 0}"
    config = run_config("simclr", overrides=[*FOUR, never, "augmentation.grayscale=0"])
    assert config.channels == 4


def test_one_channel_cannot_be_dropped() -> None:
    one = "data={name: image_folder, root: x, channels: 1, mean: [0], std: [1]}"
    drop = ("augmentation.channel_drop=0.2", "backbone.in_channels=1")
    with pytest.raises(UserError, match=r"channel_drop=0.2 needs several channels; set it to 0"):
        run_config("simclr", overrides=[one, *drop])


def test_a_lower_bound_makes_no_views_so_its_colours_do_not_matter() -> None:
    config = run_config("raw_pixels", overrides=[FOUR[0], "backbone.in_channels=4"])
    assert config.channels == 4
