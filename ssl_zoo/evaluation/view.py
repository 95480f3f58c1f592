"""How a network sees the images that it is scored on."""

from dataclasses import dataclass
from typing import Literal

from ssl_zoo.augmentations.evaluation import PHOTO_MARGIN, Interpolation
from ssl_zoo.data.base import Dataset

Precision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class ViewSpec:
    """One view of each image, and the arithmetic of the network that sees it.

    Attributes:
        image_size: height and width of the centre crop, in pixels.
        resize: shorter side before that crop; `image_size` unless given.
        interpolation: `bilinear`, or `bicubic` as in DINO's protocol.
        precision: of the network's arithmetic; features are float32 always.
    """

    image_size: int
    resize: int | None = None
    interpolation: Interpolation = "bilinear"
    precision: Precision = "fp32"


def resize_for(dataset: Dataset, size: int) -> int:
    """Returns the shorter side before the centre crop: a margin for photographs, none for others.

    256 for crops of 224, as in all protocols on ImageNet; images that are held in memory are small
    and seen whole.
    """
    return size if dataset.in_memory else round(size * PHOTO_MARGIN)
