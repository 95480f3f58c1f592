"""A subset of a data set's images."""

import functools
import hashlib

import torch
from torch import Tensor

from ssl_zoo.data.base import Dataset


class Subset(Dataset):
    """Images of another data set, in a given order, optionally with new labels.

    Args:
        dataset: the other one.
        rows: positions in it, `(n,)` int64.
        labels: of the images, `(n,)`; None keeps those of the other data set.
    """

    def __init__(self, dataset: Dataset, rows: Tensor, labels: Tensor | None = None) -> None:
        self._whole, self._rows = dataset, rows
        self.config = dataset.config
        self.in_memory, self.max_corrupt = dataset.in_memory, dataset.max_corrupt
        own = None if dataset.labels is None else dataset.labels[rows]
        self.labels = own if labels is None else labels
        self.class_names = dataset.class_names if labels is None else []

    def __len__(self) -> int:
        return len(self._rows)

    def load(self, indices: Tensor) -> list[Tensor | None] | Tensor:
        """Returns the images at positions `(B,)` of the subset; see `Dataset.load`."""
        return self._whole.load(self._rows[indices])

    def describe(self, index: int) -> str:
        """Returns the other data set's name of the image."""
        return self._whole.describe(int(self._rows[index]))

    @functools.cached_property
    def fingerprint(self) -> str:
        """Digest of the other data set's fingerprint, the positions and the labels."""
        return self._digest(self._whole.fingerprint)

    @property
    def cache_key(self) -> str:
        """Digest of the other data set's key, the positions and the labels."""
        return self._digest(self._whole.cache_key)

    def refuse_changes(self) -> None:
        """Raises `UserError` if an image of the other data set was changed."""
        self._whole.refuse_changes()

    def fault(self, index: int) -> str:
        """Returns why the other data set cannot load the image."""
        return self._whole.fault(int(self._rows[index]))

    def _digest(self, whole: str) -> str:
        digest = hashlib.sha256(whole.encode())
        labels = torch.empty(0) if self.labels is None else self.labels
        for part in (self._rows, labels):
            digest.update(part.numpy().tobytes())
        return digest.hexdigest()[:16]
