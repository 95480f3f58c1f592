"""Loads images that may be damaged, and counts and names those that are."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_zoo.data.base import Dataset
from ssl_zoo.errors import UserError

logger = logging.getLogger(__name__)

_NAMED = 5  # corrupt images named in a message


@dataclass(frozen=True)
class LoadedBatch:
    """A process's part of a batch of views, before normalisation.

    Attributes:
        views: one tensor `(V, B, C, size, size)` per size, uint8 or float32 in [0, 1].
        index: position of each image in the data set, `(B,)`, on the CPU.
        labels: `(B,)`, or None if not requested.
        corrupt: images that could not be loaded and were replaced, with the reason.
        masks: patches to mask, `(B, M, L)` bool, or None if the augmentation draws none.
        digests: digest of each view, `(B,)`, or None if they were not requested.
    """

    views: list[Tensor]
    index: Tensor
    labels: Tensor | None = None
    corrupt: dict[str, str] = field(default_factory=dict)
    masks: Tensor | None = None
    digests: NDArray[np.uint64] | None = None


@dataclass
class CorruptImages:
    """Counts images that cannot be loaded, each once, and stops a run that finds too many.

    Args:
        limit: number of images allowed.
        n_images: number of images in the data set.
        names: the images so far, with the reason; it is empty if an image cannot be decoded.
    """

    limit: int
    n_images: int
    names: dict[str, str] = field(default_factory=dict)

    def add(self, faults: Mapping[str, str]) -> None:
        """Records images with the reason, and logs a warning for new ones.

        Raises:
            UserError: the limit is exceeded.
        """
        new = {name: why for name, why in faults.items() if name not in self.names}
        if not new:
            return
        self.names.update(new)
        logger.warning("cannot %s %s; %d so far", _verb(new), shorten(new), len(self.names))
        if len(self.names) > self.limit:
            raise UserError(
                f"{len(self.names)} of {self.n_images} images cannot be {_verb(self.names)}d, more than "
                f"data.max_corrupt={self.limit} allows: {shorten(self.names)}; fix or remove "
                "them, or raise data.max_corrupt"
            )


def _verb(faults: Mapping[str, str]) -> str:
    return "use" if any(faults.values()) else "decode"


def shorten(faults: Mapping[str, str]) -> str:
    """Returns the first names with their reasons, and the number of further ones."""
    texts = [f"'{name}' ({why})" if why else f"'{name}'" for name, why in faults.items()]
    more = f" and {len(texts) - _NAMED} more" if len(texts) > _NAMED else ""
    return ", ".join(texts[:_NAMED]) + more


def faults_of(dataset: Dataset, index: Iterable[int]) -> dict[str, str]:
    """Returns the names of images that cannot be loaded, with the reasons."""
    return {dataset.describe(place): dataset.fault(place) for place in index}


def load_readable(dataset: Dataset, index: Tensor) -> tuple[list[Tensor], Tensor, dict[str, str]]:
    """Loads images; an image that cannot be loaded is replaced by the next one that can.

    Returns:
        The images, their actual positions `(B,)`, and the names of those replaced with the reasons.
        There are fewer images than requested only if too many in a row cannot be loaded.
    """
    images, places, corrupt = [], [], list[int]()
    for image, place in zip(dataset.load(index), index.tolist(), strict=True):
        for _ in range(min(len(dataset), dataset.max_corrupt + 1)):
            if image is not None:
                break
            corrupt.append(place)
            place = (place + 1) % len(dataset)
            image = dataset.load(torch.tensor([place]))[0]
        if image is not None:
            images.append(image)
            places.append(place)
    return images, torch.tensor(places), faults_of(dataset, dict.fromkeys(corrupt))
