"""Mean and standard deviation of a data set."""

import numpy as np
import pytest
import torch
from torch import Tensor

from ssl_zoo.data.base import Dataset
from ssl_zoo.data.measure import measured
from ssl_zoo.data.tensor_dataset import TensorDataset
from ssl_zoo.errors import UserError


class Held(TensorDataset):
    def __init__(self, images: Tensor) -> None:
        n = images.shape[1]
        self.config = Dataset.Config(name="held", channels=n, mean=(0.0,) * n, std=(1.0,) * n)
        self.hold(images, None, [])


class Listed(Held):
    """Images that cannot all be loaded, of several sizes."""

    max_corrupt = 1

    def load(self, indices: Tensor) -> list[Tensor | None]:  # type: ignore[override]
        return [
            None if place == 0 else torch.full((1, place, 2), place, dtype=torch.uint8)
            for place in indices.tolist()
        ]


def test_mean_and_std_are_numpys() -> None:
    images = torch.randint(0, 256, (20, 4, 5, 6), dtype=torch.uint8)
    found = measured(Held(images))
    values = images.numpy() / 255
    np.testing.assert_allclose(found.mean, values.mean((0, 2, 3)))
    np.testing.assert_allclose(found.std, values.std((0, 2, 3)))


def test_float_images_are_taken_as_they_are() -> None:
    images = torch.rand(20, 2, 5, 6)
    found = measured(Held(images))
    np.testing.assert_allclose(found.mean, images.double().mean((0, 2, 3)), rtol=1e-6)


def test_each_image_counts_equally_whatever_its_size() -> None:
    found = measured(Listed(torch.zeros(4, 1, 1, 1)))
    np.testing.assert_allclose(found.mean, [2 / 255])
    np.testing.assert_allclose(found.std, [np.std([1, 2, 3]) / 255])


def test_a_sample_is_drawn_by_the_seed() -> None:
    data = Held(torch.rand(50, 1, 2, 2))
    assert measured(data, max_images=5) == measured(data, max_images=5)
    assert measured(data, max_images=5) != measured(data, max_images=5, seed=1)
    assert measured(data, max_images=50) == measured(data)


def test_a_constant_channel_is_not_blown_up() -> None:
    images = torch.rand(20, 2, 5, 6)
    images[:, 1] = 0.3
    assert measured(Held(images)).std[1] == 1


def test_too_many_bad_images_stop_the_measurement() -> None:
    data = Listed(torch.zeros(1, 1, 1, 1))
    with pytest.raises(UserError, match="none of 1 images can be decoded"):
        measured(data)
