"""The contract of a data set: images by position, and optional labels."""

import os
from collections.abc import Sized
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from ssl_zoo.config import Config, NamedConfig
from ssl_zoo.data.fingerprint import combined
from ssl_zoo.registry import Registry, registry

Split = Literal["train", "test"]
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
Bits = Literal[8, 16, 32]
"""Depth of images; see `Dataset.Config.bits`."""
Deviation = Annotated[float, Field(gt=0)]


class Normalisation(Config):
    """Mean and standard deviation of each channel, for values in [0, 1]."""

    mean: tuple[float, ...] = Field(min_length=1)
    std: tuple[Deviation, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> "Normalisation":
        if len(self.mean) != len(self.std):
            raise ValueError(
                f"mean has {len(self.mean)} values but std has {len(self.std)}; give one of each per "
                "channel"
            )
        return self

    def as_json(self) -> dict[str, list[float]]:
        """Returns both, ready for JSON."""
        return {"mean": list(self.mean), "std": list(self.std)}


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

        LATER: ClassVar[frozenset[str]] = frozenset({"channels", "bits", "value_range"})

        channels: int = Field(default=3, ge=1, le=1024)
        """Channels of the images. Grey images are expanded to three."""
        bits: Bits = 8
        """Bits of each value: 8 or 16 for unsigned integers; 32 for all other numbers, float among
        them."""
        value_range: tuple[float, float] | None = None
        """Values that become 0 and 1 if there are 16 or 32 bits, such as `[0, 4095]`; values beyond
        them are cut off. By default 0 and 65535 for 16 bits, and 0 and 1 for 32."""
        mean: tuple[float, ...] = IMAGENET_MEAN
        """Mean of each channel, for values in [0, 1]."""
        std: tuple[Deviation, ...] = IMAGENET_STD
        """Standard deviation of each channel, for values in [0, 1]."""
        changed: Literal["refuse", "accept"] = "refuse"
        """Whether a run may resume although its training data has changed since its checkpoint."""

        @model_validator(mode="after")
        def _check_pixels(self) -> Self:
            for name, values in (("mean", self.mean), ("std", self.std)):
                if len(values) != self.channels:
                    raise ValueError(
                        f"{name} has {_count(values, 'value')} but the images have "
                        f"{_count(range(self.channels), 'channel')}; set data.channels to the number "
                        "in the files, and data.mean and data.std to one number for each channel"
                    )
            low, high = self.value_range or (0, 1)
            if low >= high:
                raise ValueError(
                    f"value_range of {low} to {high} is not a valid range; write low < high"
                )
            if self.value_range is not None and self.bits == 8:
                raise ValueError(
                    "value_range applies to images of 16 or 32 bits; set data.bits, or leave it out"
                )
            return self

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
            `(B, C, H, W)` if all images have one size, else a list of `(C, H, W)` in which an image
            that cannot be loaded is None. Images of 8 bits are uint8, others float32 in [0, 1].
        """
        raise NotImplementedError

    def describe(self, index: int) -> str:
        """Returns a readable name of the image: its path, or its position."""
        return f"image {index}"

    def file_name(self, index: int) -> str | None:
        """Returns the path of an image's file relative to the data set's folder; None if images are not
        in files of their own."""
        return None

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

    def _listing(self, *parts: bytes | memoryview) -> str:
        labels = b"" if self.labels is None else self.labels.numpy().tobytes()
        return combined(
            str(len(self)).encode(), labels, *map(os.fsencode, self.class_names), *parts
        )

    def refuse_changes(self) -> None:
        """Raises `UserError` if images were changed since the fingerprint was first asked for."""


class RGBConfig(Dataset.Config):
    """Settings of a data set whose images are always RGB with 8 bits."""

    channels: Literal[3] = 3
    """Channels of the images."""
    bits: Literal[8] = 8
    """Bits of each value."""
    value_range: None = None
    """Does not apply to 8 bits."""


def _count(values: Sized, what: str) -> str:
    return f"{len(values)} {what}{'' if len(values) == 1 else 's'}"


DATASETS: "Registry[Dataset]" = registry("dataset")
