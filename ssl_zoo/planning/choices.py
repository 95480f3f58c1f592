"""The rules of a plan: from facts about images and machine to settings, each with its reason."""

import math
from dataclasses import dataclass
from typing import Any

from ssl_zoo.planning.machine import Machine

MOST_WORKERS = 8
"""Largest number of loader processes that is planned."""
SMALL = 64
"""Shorter side of images, in pixels, up to which they are trained at their own size."""
CPU_SIZE, GPU_SIZE = 64, 160
"""Height and width of global crops of larger images, in pixels."""
ENOUGH = 3
"""Shorter side of decoded images, in multiples of the global crops: a crop of a tenth of the area is still
about as large as the view that is made of it."""
LEAST_BATCHES = 8
"""Least number of batches in an epoch; with fewer, a step sees much of the data at once."""
MANY_IMAGES = 50_000
"""Number of images from which on a larger network is planned on a GPU."""


@dataclass(frozen=True)
class Images:
    """Facts about the training images.

    Attributes:
        count: number of images.
        side: median of their shorter sides, in pixels.
        from_files: whether they are decoded from files.
        labelled: whether scores can be computed during training.
    """

    count: int
    side: int
    from_files: bool
    labelled: bool


@dataclass(frozen=True)
class Choice:
    """A setting, by its full path, its value and the reason for it in one line."""

    key: str
    value: Any
    reason: str


def view_size(images: Images, machine: Machine) -> tuple[int, str]:
    """Returns height and width of the global crops, a multiple of 8, and the reason."""
    if images.side <= SMALL:
        size = max(8, images.side // 8 * 8)
        return size, f"about the size of the images ({images.side} pixels)"
    usual = GPU_SIZE if machine.gpu else CPU_SIZE
    size = min(usual, images.side // 8 * 8)
    place = "a GPU" if machine.gpu else "a CPU"
    cost = (
        f"{(224 / size) ** 2:.0f} times cheaper than 224"
        if size < 150
        else "2 times cheaper than 224"
    )
    return size, f"{size} pixels on {place}, {cost}: more passes within the budget"


def shrink_to(images: Images, size: int) -> tuple[int, str] | None:
    """Returns the shorter side at which large JPEG files are decoded, and the reason; None for all of it.

    Args:
        images: the images.
        size: height and width of the global crops.
    """
    wanted = ENOUGH * size
    if not images.from_files or images.side < 2 * wanted:
        return None
    return (
        wanted,
        f"{ENOUGH} times the largest crop: JPEG files are decoded at a part of their size",
    )


def batch_size(images: Images, machine: Machine) -> tuple[int, str]:
    """Returns the number of images per step, a power of two, and the reason."""
    usual = 256 if machine.gpu else 128
    most = images.count // LEAST_BATCHES
    size = min(usual, 2 ** int(math.log2(max(most, 2))))
    if size == usual:
        return size, f"usual on {'a GPU' if machine.gpu else 'a CPU'}"
    return size, f"at least {LEAST_BATCHES} steps an epoch with {images.count:,} images"


def network(
    recipe: str, size: int, images: Images, machine: Machine
) -> tuple[dict[str, Any], str]:
    """Returns the settings of a ResNet and the reason.

    Args:
        recipe: the recipe's network, kept unless there is a reason.
        size: height and width of the global crops.
        images: the images.
        machine: the machine.
    """
    if size <= 40:
        return {"name": "resnet18", "stem": "cifar"}, f"a first layer for images of {size} pixels"
    if machine.gpu and images.count >= MANY_IMAGES:
        return {"name": "resnet50"}, f"{images.count:,} images and a GPU"
    return {"name": recipe}, f"for {images.count:,} images on {machine.gpu or 'a CPU'}"


def workers(images: Images, machine: Machine) -> tuple[int, str]:
    """Returns the number of loader processes and the reason."""
    if not images.from_files:
        return 0, "the images are in memory"
    if machine.cores == 1:
        return 0, "there is one core"
    count = min(MOST_WORKERS, machine.cores - 1) if machine.gpu else 1
    return count, f"decode images beside the network, with {machine.cores} cores"


def scaled_lr(name: str, lr: float, batch: int, recipe_batch: int) -> tuple[float, str]:
    """Returns a learning rate for another batch size, and the reason.

    Linear for SGD and its layer-wise variants (Goyal et al., 2017, arXiv:1706.02677), with the square
    root for Adam (Malladi et al., 2022, arXiv:2205.10287).
    """
    ratio = batch / recipe_batch
    by_root = name.startswith("adam")
    value = lr * (math.sqrt(ratio) if by_root else ratio)
    rule = "square root of the batch size" if by_root else "batch size"
    return float(f"{value:.3g}"), f"scaled with the {rule}: {lr:g} at {recipe_batch}"
