"""Handwritten digits from scikit-learn: small enough to train on in minutes on a CPU.

1797 images of 8x8 pixels, the test part of the UCI set "Optical Recognition of Handwritten Digits"
(Alpaydin and Kaynak, 1998, doi:10.24432/C50P49). Every fifth image belongs to the test split.
"""

import importlib.util
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ssl_zoo.augmentations import random
from ssl_zoo.data.base import DATASETS, RGBConfig, Split
from ssl_zoo.data.tensor_dataset import TensorDataset

_TEST_EVERY = 5
_CLASS_NAMES = [str(digit) for digit in range(10)]


def _load() -> tuple[Tensor, Tensor]:
    """Returns values in [0, 1] `(1797, 1, 8, 8)` and labels `(1797,)`."""
    table = torch.from_numpy(_table()).to(torch.float32)  # 64 values of 0 to 16 and the label
    return table[:, :64].reshape(-1, 1, 8, 8).div_(16), table[:, 64].to(torch.int64)


def _table() -> NDArray[np.float64]:
    """Returns the rows of scikit-learn's file `(1797, 65)`; importing scikit-learn takes a second."""
    found = importlib.util.find_spec("sklearn")
    folders = (found.submodule_search_locations if found else None) or []
    for folder in folders:
        file = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if file.is_file():
            return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits  # its files have moved

    digits: Any = load_digits()
    return np.column_stack((digits.data, digits.target))


def _rows(n: int, split: Split) -> Tensor:
    is_test = torch.arange(n) % _TEST_EVERY == _TEST_EVERY - 1
    return (is_test if split == "test" else ~is_test).nonzero()[:, 0]


def _to_uint8(images: Tensor) -> Tensor:
    """Turns `(n, 1, H, W)` in [0, 1] into three equal channels of uint8."""
    return images.mul(255).round_().to(torch.uint8).expand(-1, 3, -1, -1)


class _DigitsBase(TensorDataset):
    source: ClassVar[str] = "scikit-learn's load_digits; doi:10.24432/C50P49"

    def __init__(self, config: Any, *, split: Split) -> None:
        self.config = config
        images, labels = _load()
        rows = _rows(len(images), split)
        self.hold(_to_uint8(self._draw(images)[rows]), labels[rows], _CLASS_NAMES)

    def _draw(self, images: Tensor) -> Tensor:
        raise NotImplementedError


@DATASETS.register
class Digits(_DigitsBase):
    """Handwritten digits, 8x8."""

    class Config(RGBConfig):
        """Settings of the digits."""

        name: Literal["digits"] = "digits"
        """Registered name."""
        mean: tuple[float, float, float] = (0.306, 0.306, 0.306)
        """Mean of the training images."""
        std: tuple[float, float, float] = (0.376, 0.376, 0.376)
        """Standard deviation of the training images."""

    def _draw(self, images: Tensor) -> Tensor:
        return images


@DATASETS.register
class DigitsAffine(_DigitsBase):
    """Digits on a 32x32 canvas, each with a fixed random rotation, size and position.

    Pixels carry little information about the class: learnt features must ignore the pose.
    """

    class Config(RGBConfig):
        """Settings of the digits with random pose."""

        name: Literal["digits_affine"] = "digits_affine"
        """Registered name."""
        mean: tuple[float, float, float] = (0.149, 0.149, 0.149)
        """Mean of the training images."""
        std: tuple[float, float, float] = (0.267, 0.267, 0.267)
        """Standard deviation of the training images."""

    def _draw(self, images: Tensor) -> Tensor:
        return move(images, random.sample_keys(0, 0, torch.arange(len(images))))


def move(images: Tensor, keys: Tensor, *, canvas: int = 32) -> Tensor:
    """Draws each image on a black canvas, randomly rotated, scaled and shifted.

    The rotation is at most 0.6 radians, the digit takes 0.5 to 0.9 of the canvas's width, and it is
    shifted along its own axes by up to a quarter of its width from the centre.

    Args:
        images: `(n, 1, H, W)` in [0, 1].
        keys: one per image, `(n,)`.

    Returns:
        `(n, 1, canvas, canvas)` in [0, 1].
    """
    angle = random.uniform(keys, 0, -0.6, 0.6)
    scale = random.uniform(keys, 1, 0.5, 0.9)
    shift = torch.stack([random.uniform(keys, stream, -0.5, 0.5) for stream in (2, 3)], 1)
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    turn = torch.stack([torch.stack([cos, sin], 1), torch.stack([-sin, cos], 1)], 1)
    theta = torch.cat([turn, shift[:, :, None]], 2).to(torch.float32)
    grid = F.affine_grid(theta, [len(images), 1, canvas, canvas], align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
