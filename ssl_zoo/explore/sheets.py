"""Contact sheets of the images nearest to a centroid."""

import math
from collections.abc import Iterable
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
        n_images: number of thumbnails on a full sheet, which determines the number per row.
    """
    save_sheet(path, dataset.load(torch.from_numpy(index)), n_images=n_images)


def save_sheet(path: Path, images: Iterable[Tensor | None], *, n_images: int) -> None:
    """Writes images `(3, H, W)` uint8 as a PNG of square thumbnails, row by row; see `write_sheet`."""
    from PIL import Image

    thumbnails = [None if pixels is None else thumbnail(pixels) for pixels in images]
    columns = max(1, math.ceil(math.sqrt(n_images)))
    rows = max(1, math.ceil(len(thumbnails) / columns))
    step = SIDE + GAP
    sheet = Image.new("RGB", (columns * step + GAP, rows * step + GAP), PAPER)
    for place, picture in enumerate(thumbnails):
        if picture is not None:
            row, column = divmod(place, columns)
            sheet.paste(picture, (GAP + column * step, GAP + row * step))
    sheet.save(path, format="PNG")


def thumbnail(pixels: Tensor) -> "Image":
    """Returns the centre square of an image `(C, H, W)`, scaled to `SIDE` pixels.

    Shows the first three channels, or the first of fewer as grey.

    Args:
        pixels: uint8, or float32 in [0, 1].
    """
    from PIL import Image, ImageOps

    shown = pixels[: 3 if len(pixels) >= 3 else 1].expand(3, -1, -1)
    if shown.is_floating_point():
        shown = (shown * 255).round().to(torch.uint8)
    image = Image.fromarray(shown.permute(1, 2, 0).contiguous().numpy())
    enlarged = 2 * min(image.size) <= SIDE  # show the pixels of small images
    how = Image.Resampling.NEAREST if enlarged else Image.Resampling.LANCZOS
    return ImageOps.fit(image, (SIDE, SIDE), how)
