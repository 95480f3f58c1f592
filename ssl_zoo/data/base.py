"""The contract of a data set: uint8 images by position, and optional labels."""

import os
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ssl_zoo.config import NamedConfig
from ssl_zoo.data.fingerprint import combined
from ssl_zoo.registry import Registry, registry

Split = Literal["train", "test"]
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Dataset:
    """Images and labels of one split.

    Args:
        config: location and normalisation of the data.
        split: `train` or `test`.

    Attributes:
        config: the settings it was built from.
        labels: class of each image, `(N,)` int64, or `(N, C)` of 0 and 1 for several classes
            per image; None without labels.
        class_names: one name per class; empty without labels.
        in_memory: whether `load` only indexes a tensor, so loader workers are not needed.
        max_corrupt: number of images that may fail to decode before a run stops.
    """

    class Config(NamedConfig):
        """Settings of every data set."""

        mean: tuple[float, float, float] = IMAGENET_MEAN
        """Mean of each channel, for values in [0, 1]."""
        std: tuple[float, float, float] = IMAGENET_STD
        """Standard deviation of each channel, for values in [0, 1]."""
        changed: Literal["refuse", "accept"] = "refuse"
        """Whether a run may resume although its training data has changed since its checkpoint."""

    source: ClassVar[str] = ""
    """Where the data comes from: citation or URL."""
    config: Any
    labels: Tensor | None
    class_names: list[str]
    in_memory: bool
    max_corrupt: int = 0

    def __init__(self, config: Any, *, split: Split) -> None:
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError

    def load(self, indices: Tensor) -> list[Tensor | None] | Tensor:
        """Returns the images at positions `(B,)`.

        Returns:
            `(B, 3, H, W)` uint8 if all images have one size, else a list of `(3, H, W)` uint8 in
            which an image that cannot be loaded is None.
        """
        raise NotImplementedError

    def describe(self, index: int) -> str:
        """Returns a readable name of the image: its path, or its position."""
        return f"image {index}"

    def fault(self, index: int) -> str:
        """Returns why an image cannot be loaded, such as `permission denied`; empty if it cannot be
        decoded."""
        return ""

    @property
    def fingerprint(self) -> str:
        """Digest of the split's content: 16 hexadecimal digits that change with the data, and not if
        it is moved."""
        raise NotImplementedError

    @property
    def cache_key(self) -> str:
        """Digest that changes with the fingerprint, and possibly if files are written again."""
        return self.fingerprint

    @property
    def image_digests(self) -> NDArray[np.uint64] | None:
        """Digest of each image and its label, `(N,)`; None if the data set has none."""
        return None

    @property
    def listing(self) -> str:
        """Digest of what is known without reading images: number, labels and classes."""
        return self._listing()

    def _listing(self, *parts: bytes) -> str:
        labels = b"" if self.labels is None else self.labels.numpy().tobytes()
        return combined(
            str(len(self)).encode(), labels, *map(os.fsencode, self.class_names), *parts
        )

    def refuse_changes(self) -> None:
        """Raises `UserError` if images were changed since the fingerprint was first asked for."""


DATASETS: "Registry[Dataset]" = registry("dataset")
