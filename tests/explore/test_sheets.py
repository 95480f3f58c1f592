"""Thumbnails of images of all channels and bits."""

import numpy as np
import pytest
import torch

from ssl_zoo.explore.sheets import SIDE, thumbnail


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_the_first_three_channels_are_shown_or_one_as_grey(channels: int) -> None:
    values = (10 * torch.arange(1, channels + 1)).to(torch.uint8)
    shown = np.asarray(thumbnail(values.view(-1, 1, 1).expand(-1, 8, 8)))
    assert shown.shape == (SIDE, SIDE, 3)
    assert shown[0, 0].tolist() == ([10, 20, 30] if channels >= 3 else [10, 10, 10])


def test_values_in_0_to_1_are_scaled() -> None:
    shown = np.asarray(thumbnail(torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1).expand(-1, 8, 8)))
    assert shown[0, 0].tolist() == [0, 128, 255]
