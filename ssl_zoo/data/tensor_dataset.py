"""Data sets that fit into memory: one tensor."""

import functools
import hashlib

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ssl_zoo.data.base import Dataset
from ssl_zoo.data.fingerprint import short, with_labels


class TensorDataset(Dataset):
    """A split stored as one tensor; subclasses call `hold` in `__init__`.

    Attributes:
        images: `(N, C, H, W)`, uint8 or float32 in [0, 1].
    """

    in_memory = True
    images: Tensor

    def hold(self, images: Tensor, labels: Tensor | None, class_names: list[str]) -> None:
        """Stores images `(N, C, H, W)`, uint8 or float32 in [0, 1], and labels `(N,)`."""
        self.images = images.contiguous()
        self.labels = labels
        self.class_names = class_names

    def __len__(self) -> int:
        return len(self.images)

    def load(self, indices: Tensor) -> Tensor:
        """Returns the images at positions `(B,)`, `(B, C, H, W)`."""
        return self.images[indices]

    @functools.cached_property
    def fingerprint(self) -> str:
        """Digest of shape, values and labels."""
        digest = hashlib.sha256(str(tuple(self.images.shape)).encode())
        digest.update(self.images.numpy().data)
        if self.labels is not None:
            digest.update(self.labels.numpy().data)
        return digest.hexdigest()[:16]

    @functools.cached_property
    def image_digests(self) -> NDArray[np.uint64]:
        """Digests of values and label of each image, `(N,)`."""
        found = [short(image.tobytes()) for image in self.images.numpy()]
        return with_labels(np.array(found, dtype=np.uint64), self.labels)
