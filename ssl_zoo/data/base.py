"""The contract of a data set: uint8 images by position, and optional labels."""

from typing import Any, ClassVar, Literal

from torch import Tensor

from ssl_zoo.config import NamedConfig
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
            which an image that cannot be decoded is None.
        """
        raise NotImplementedError

    def describe(self, index: int) -> str:
        """Returns a readable name of the image: its path, or its position."""
        return f"image {index}"

    @property
    def fingerprint(self) -> str:
        """Digest of the split's content: 16 hexadecimal digits that change with the data."""
        raise NotImplementedError


DATASETS: "Registry[Dataset]" = registry("dataset")
