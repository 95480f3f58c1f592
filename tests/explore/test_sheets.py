"""Thumbnails of images of all channels and bits."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_zoo.data.base import DATASETS
from ssl_zoo.explore.sheets import GAP, SIDE, thumbnail, write_sheet


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_the_first_three_channels_are_shown_or_one_as_grey(channels: int) -> None:
    values = (10 * torch.arange(1, channels + 1)).to(torch.uint8)
    shown = np.asarray(thumbnail(values.view(-1, 1, 1).expand(-1, 8, 8)))
    assert shown.shape == (SIDE, SIDE, 3)
    assert shown[0, 0].tolist() == ([10, 20, 30] if channels >= 3 else [10, 10, 10])


def test_values_in_0_to_1_are_scaled() -> None:
    shown = np.asarray(thumbnail(torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1).expand(-1, 8, 8)))
    assert shown[0, 0].tolist() == [0, 128, 255]


def test_a_sheet_has_room_for_the_images_there_are(tmp_path: Path) -> None:
    data = DATASETS.build("digits", split="test")
    sizes = {}
    for n in (1, 3, 4, 9):
        write_sheet(tmp_path / "sheet.png", data, np.arange(n), n_images=9)
        with Image.open(tmp_path / "sheet.png") as sheet:
            sizes[n] = sheet.size
    step = SIDE + GAP
    assert sizes == {
        n: (3 * step + GAP, rows * step + GAP) for n, rows in zip(sizes, (1, 1, 2, 3), strict=True)
    }


def test_a_thumbnail_is_the_middle_of_the_image() -> None:
    wide = torch.zeros(3, 10, 30, dtype=torch.uint8)
    wide[:, :, 10:20] = 255
    assert np.asarray(thumbnail(wide)).min() == 255
