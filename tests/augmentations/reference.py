"""The same views made one by one with Pillow and torchvision, and images to make them from."""

import functools

import numpy as np
import torch
from PIL import Image, ImageFilter, ImageOps
from sklearn.datasets import load_sample_images
from torch import Tensor
from torchvision.transforms import functional as F

from ssl_zoo.augmentations.params import BRIGHTNESS, CONTRAST, HUE, SATURATION, ViewParams

FUNCTIONS = {
    BRIGHTNESS: F.adjust_brightness,
    CONTRAST: F.adjust_contrast,
    SATURATION: F.adjust_saturation,
    HUE: F.adjust_hue,
}


def to_pil(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())


def from_pil(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def blur(image: Image.Image, sigma: float) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(radius=sigma))


def view(image: Tensor, params: ViewParams, row: int, column: int, size: int) -> Tensor:
    """Returns one view `(3, size, size)` uint8 as SwAV's transforms would make it."""
    top, left, height, width = params.box[row, column].tolist()
    made = F.resized_crop(to_pil(image), top, left, height, width, [size, size])
    if params.flip[row, column]:
        made = F.hflip(made)
    for operation in params.order[row, column].tolist():
        if operation in FUNCTIONS:
            made = FUNCTIONS[operation](made, float(params.factors[row, column, operation]))
    if params.grayscale[row, column]:
        made = F.to_grayscale(made, 3)
    if params.sigma[row, column] > 0:
        made = blur(made, float(params.sigma[row, column]))
    if params.solarize[row, column]:
        made = ImageOps.solarize(made, 128)
    return from_pil(made)


def views(images: list[Tensor], params: ViewParams, size: int) -> Tensor:
    """Returns all views `(V, B, 3, size, size)` uint8."""
    n_views, batch = params.flip.shape
    rows = [
        torch.stack([view(images[column], params, row, column, size) for column in range(batch)])
        for row in range(n_views)
    ]
    return torch.stack(rows)


@functools.cache
def photographs() -> tuple[Tensor, Tensor]:
    """Returns two photographs that come with scikit-learn, `(3, 427, 640)` uint8."""
    first, second = load_sample_images().images
    return torch.tensor(first).permute(2, 0, 1), torch.tensor(second).permute(2, 0, 1)


def small_photographs(n: int, size: int = 32) -> Tensor:
    """Returns parts of photographs, `(n, 3, size, size)` uint8."""
    generator = torch.Generator().manual_seed(0)
    parts = []
    for number in range(n):
        image = photographs()[number % 2]
        side = int(torch.randint(size, 300, (), generator=generator))
        top = int(torch.randint(0, 427 - side, (), generator=generator))
        left = int(torch.randint(0, 640 - side, (), generator=generator))
        part = to_pil(image[:, top : top + side, left : left + side]).resize((size, size))
        parts.append(from_pil(part))
    return torch.stack(parts)


def noise(n: int, size: int = 32) -> Tensor:
    """Returns random values, `(n, 3, size, size)` uint8."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (n, 3, size, size), generator=generator, dtype=torch.uint8)


def errors(ours: Tensor, theirs: Tensor) -> tuple[float, float, float]:
    """Returns mean and largest absolute difference and the mean difference, on 0..255."""
    difference = ours.double() - theirs.double()
    return float(difference.abs().mean()), float(difference.abs().max()), float(difference.mean())
