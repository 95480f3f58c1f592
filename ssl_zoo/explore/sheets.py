"""Contact sheets: the images nearest to a centroid, side by side."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_zoo.data.base import Dataset

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 112
"""Height and width of a thumbnail, in pixels."""
GAP = 4
"""Space between thumbnails, in pixels."""
PAPER = (255, 255, 255)


def write_sheet(path: Path, dataset: Dataset, index: NDArray[np.int64], *, n_images: int) -> None:
    """Writes images as a PNG of square thumbnails, row by row.

    Args:
        index: positions of the images in the data set, `(n,)`.
        n_images: thumbnails that a full sheet holds, which says how many stand in a row.
    """
    from PIL import Image

    columns = math.ceil(math.sqrt(n_images))
    rows = max(1, math.ceil(len(index) / columns))
    step = SIDE + GAP
    sheet = Image.new("RGB", (columns * step + GAP, rows * step + GAP), PAPER)
    for place, pixels in enumerate(dataset.load(torch.from_numpy(index))):
        if pixels is not None:
            row, column = divmod(place, columns)
            sheet.paste(thumbnail(pixels), (GAP + column * step, GAP + row * step))
    sheet.save(path, format="PNG")


def thumbnail(pixels: Tensor) -> "Image":
    """Returns the square in the middle of an image `(3, H, W)` uint8, `SIDE` pixels wide."""
    from PIL import Image, ImageOps

    image = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    enlarged = 2 * min(image.size) <= SIDE  # show pixels as what they are
    how = Image.Resampling.NEAREST if enlarged else Image.Resampling.LANCZOS
    return ImageOps.fit(image, (SIDE, SIDE), how)
