"""Methods that predict pixels, on images of four channels."""

from dataclasses import replace

import pytest
import torch

from ssl_zoo.method import Method
from ssl_zoo.testing.examples import build_small
from tests.small import batch, fast_config, progress, run_info

FOUR = (
    "data={name: image_folder, root: x, channels: 4, mean: [0, 0, 0, 0], std: [1, 1, 1, 1]}",
    "backbone.in_channels=4",
)


@pytest.mark.parametrize("name", ["mae", "simmim"])
def test_pixels_of_all_channels_are_predicted(name: str) -> None:
    method: Method = build_small(fast_config(name, *FOUR), run_info())
    found = batch()
    four = replace(found, views=[torch.randn(1, 8, 4, 32, 32)])
    method(four, progress()).loss.backward()
    assert all(p.grad is not None for p in method.parameters() if p.requires_grad)
