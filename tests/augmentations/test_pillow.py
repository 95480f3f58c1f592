"""Images of Pillow in all modes, as arrays."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ssl_zoo.augmentations.pillow import Raster, over_white, pixels_of, with_channels


def colours(mode: str = "RGB") -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "CMYK", "YCbCr", "HSV", "LAB"])
def test_opaque_images_are_read_as_pillow_converts_them(mode: str) -> None:
    image = colours(mode)
    found = with_channels(pixels_of(image), 3)
    assert found is not None
    np.testing.assert_array_equal(found.values, np.array(image.convert("RGB")))


def test_opaque_pixels_keep_their_value_on_white() -> None:
    image = colours()
    image.putalpha(255)
    found = with_channels(pixels_of(image), 3)
    assert found is not None
    np.testing.assert_array_equal(found.values, np.array(colours()))


def test_transparent_images_are_put_on_white_as_pillow_does() -> None:
    image = colours()
    image.putalpha(Image.fromarray(np.arange(54, dtype=np.uint8).reshape(6, 9) * 4))
    paper = Image.new("RGBA", image.size, "white")
    expected = np.array(Image.alpha_composite(paper, image).convert("RGB")).astype(int)
    found = with_channels(pixels_of(image), 3)
    assert found is not None
    assert np.abs(found.values.astype(int) - expected).max() <= 1


def test_a_transparent_colour_of_a_palette_becomes_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.putpixel((1, 0), 1)
    image.info["transparency"] = 0
    found = with_channels(pixels_of(image), 3)
    assert found is not None
    assert found.values.tolist() == [[[255, 255, 255], [10, 20, 30]]]


def test_opacity_is_kept_as_a_fourth_channel() -> None:
    image = colours("RGBA")
    found = with_channels(pixels_of(image), 4)
    assert found is not None
    np.testing.assert_array_equal(found.values, np.array(image))


def test_grey_with_opacity_is_one_channel_on_white() -> None:
    image = Image.new("LA", (1, 1), (0, 0))
    found = with_channels(pixels_of(image), 1)
    assert found is not None
    assert found.values.tolist() == [[[255]]]


@pytest.mark.parametrize(("mode", "channels"), [("RGB", 1), ("RGB", 4), ("L", 4), ("CMYK", 4)])
def test_other_channels_are_not_made_up(mode: str, channels: int) -> None:
    assert with_channels(pixels_of(colours(mode)), channels) is None


def test_values_of_16_bits_and_fractions_are_put_on_white() -> None:
    half = over_white(Raster(np.array([[[0, 32768]]], dtype=np.uint16), alpha=True))
    assert half.values.tolist() == [[[32767]]]
    whole = over_white(Raster(np.array([[[0.5, 0.25]]], dtype=np.float32), alpha=True))
    assert whole.values.tolist() == [[[0.875]]]


UPRIGHT: dict[int, Callable[[Any], Any]] = {
    1: lambda values: values,
    2: np.fliplr,
    3: lambda values: np.rot90(values, 2),
    4: np.flipud,
    5: lambda values: values.transpose(1, 0, 2),
    6: lambda values: np.rot90(values, -1),
    7: lambda values: np.rot90(values, 2).transpose(1, 0, 2),
    8: np.rot90,
}
"""What makes an image of each orientation upright (EXIF 2.3, tag 0x0112)."""


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_images_come_upright(orientation: int) -> None:
    image = colours()
    image.getexif()[0x0112] = orientation
    expected = UPRIGHT[orientation](np.array(colours()))
    np.testing.assert_array_equal(pixels_of(image).values, expected)


def test_damaged_exif_data_is_ignored() -> None:
    image = colours()
    image.info["exif"] = b"Exif\x00\x00damaged"
    np.testing.assert_array_equal(pixels_of(image).values, np.array(colours()))
