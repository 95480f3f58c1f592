"""How images are presented to a network for evaluation."""

from dataclasses import dataclass
from typing import Literal

from ssl_zoo.augmentations.evaluation import PHOTO_MARGIN, Interpolation
from ssl_zoo.data.base import Dataset

Precision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class ViewSpec:
    """The view of each image, and the precision of the network.

    Attributes:
        image_size: height and width of the centre crop, in pixels.
        resize: shorter side before the crop; `image_size` if not given.
        interpolation: `bilinear`, or `bicubic` as in DINO's protocol.
        precision: precision of the network's arithmetic; features are always float32.
    """

    image_size: int
    resize: int | None = None
    interpolation: Interpolation = "bilinear"
    precision: Precision = "fp32"


def resize_for(dataset: Dataset, size: int) -> int:
    """Returns the shorter side before the centre crop: larger than the crop for photographs only.

    256 for crops of 224, as in all ImageNet protocols. Images held in memory are small and used whole.
    """
    return size if dataset.in_memory else round(size * PHOTO_MARGIN)
