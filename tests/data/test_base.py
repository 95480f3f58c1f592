"""The settings that every data set has."""

from typing import Any

import pytest

from ssl_zoo.config import identity
from ssl_zoo.data.base import DATASETS
from ssl_zoo.errors import UserError


def folder(**settings: Any) -> Any:
    return DATASETS.config({"name": "image_folder", "root": "x", **settings})


@pytest.mark.parametrize("name", ["mean", "std"])
def test_numbers_of_each_channel_are_needed(name: str) -> None:
    given = {"mean": [0.5] * 4, "std": [0.5] * 4, name: [0.5] * 3}
    with pytest.raises(UserError, match=rf"{name} has 3 values but the images have 4 channels"):
        folder(channels=4, **given)


def test_a_deviation_of_zero_is_refused() -> None:
    with pytest.raises(UserError, match=r"std.1: 0 should be greater than 0"):
        folder(std=[0.1, 0, 0.1])


def test_an_empty_range_is_refused() -> None:
    with pytest.raises(UserError, match=r"value_range of 5.0 to 5.0 is not a valid range"):
        folder(bits=16, value_range=[5, 5])


def test_a_range_needs_more_than_8_bits() -> None:
    with pytest.raises(UserError, match=r"value_range applies to images of 16 or 32 bits"):
        folder(value_range=[0, 255])


def test_other_depths_are_refused() -> None:
    with pytest.raises(UserError, match=r"bits: 12 should be 8, 16 or 32"):
        folder(bits=12)


@pytest.mark.parametrize("name", ["digits", "digits_affine", "cifar10", "cifar100", "stl10"])
def test_data_sets_of_rgb_have_no_other_channels(name: str) -> None:
    with pytest.raises(UserError, match="channels: 4 should be 3"):
        DATASETS.config({"name": name, "channels": 4})


def test_images_of_8_bits_and_three_channels_keep_their_identity() -> None:
    assert not {"channels", "bits", "value_range"} & identity(folder()).keys()
    assert identity(folder(bits=16))["bits"] == 16
