"""Images that are read from files on demand."""

import functools
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_zoo.data import fingerprint as files
from ssl_zoo.data.base import Dataset
from ssl_zoo.data.walk import reason_of
from ssl_zoo.errors import UserError

MAX_PIXELS = 178_956_970
"""Largest number of pixels of an image: a small file can claim to hold more than fit into memory.
This is the limit at which Pillow refuses an image."""


class PathList(Sequence[Path]):
    """Relative paths in one block of memory that loader processes share without copying.

    A list of a million strings would be copied page by page as their reference counts change.
    """

    def __init__(self, folder: Path, names: list[str]) -> None:
        self.folder = folder
        encoded = [os.fsencode(name) for name in names]
        self.text = b"".join(encoded)
        self._ends = torch.tensor([len(name) for name in encoded], dtype=torch.int64).cumsum(0)

    def __len__(self) -> int:
        return len(self._ends)

    def name(self, index: int) -> str:
        """Returns a path relative to the folder."""
        start = int(self._ends[index - 1]) if index else 0
        return os.fsdecode(self.text[start : int(self._ends[index])])

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> list[Path]: ...
    def __getitem__(self, index: int | slice) -> Path | list[Path]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.folder / self.name(index)


class BadImage(Exception):
    """An image cannot be loaded; the message is the reason, empty if it cannot be decoded."""


def decode(path: Path) -> Tensor | None:
    """Returns an image as RGB `(3, H, W)` uint8, or None if it cannot be loaded.

    Raises:
        UserError: its values do not have 8 bits.
    """
    try:
        return _load(path)
    except BadImage:
        return None


def _load(path: Path) -> Tensor:
    Image = _pillow()
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            if image.mode.partition(";")[0] in ("I", "F"):
                raise UserError(
                    f"image '{path}' has values of more than 8 bits (mode {image.mode}), which would be "
                    "cut off; convert the images to 8 bits, with the range of values that matters"
                )
            pixels = np.array(image.convert("RGB"))
    except UserError:
        raise
    except Image.DecompressionBombError:
        raise BadImage(f"more pixels than the limit of {MAX_PIXELS:,}") from None
    except OSError as error:  # Pillow raises it without a number for damaged files
        raise BadImage(reason_of(error) if error.errno else "") from None
    except Exception:  # Pillow's decoders raise a dozen types on damaged files
        raise BadImage("") from None
    return torch.from_numpy(pixels).permute(2, 0, 1)


@functools.cache
def _pillow() -> Any:
    """Returns Pillow's module, which from then on does not warn at half its limit of pixels."""
    from PIL import Image

    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    return Image


class ImageFiles(Dataset):
    """Images that are read from files on demand."""

    in_memory = False
    _paths: PathList

    def __len__(self) -> int:
        return len(self._paths)

    def load(self, indices: Tensor) -> list[Tensor | None] | Tensor:
        """Decodes the images at positions `(B,)`; None for an image that cannot be loaded.

        Raises:
            UserError: the values of an image do not have 8 bits.
        """
        return [decode(self._paths[index]) for index in indices.tolist()]

    def describe(self, index: int) -> str:
        """Returns the path of an image."""
        return str(self._paths[index])

    @functools.cached_property
    def _stats(self) -> NDArray[np.int64]:
        return files.stats_of(self._paths)

    @functools.cached_property
    def image_digests(self) -> NDArray[np.uint64]:
        """Digests of name, size, content and label of each image, `(N,)`; see `fingerprint`."""
        names = [self._paths.name(place) for place in range(len(self))]
        found = files.digests_of(names, self._paths, self._stats)
        return files.with_labels(found, self.labels)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Digest of names, sizes, contents and labels; see `ssl_zoo.data.fingerprint`."""
        return files.combined(self.image_digests.tobytes(), *map(os.fsencode, self.class_names))

    @property
    def cache_key(self) -> str:
        """Also depends on time of modification and inode, unless all bytes are in the fingerprint."""
        if files.is_whole(self._stats):
            return self.fingerprint
        return files.combined(self.fingerprint.encode(), self._stats.tobytes())

    @property
    def listing(self) -> str:
        """Digest of the number, names, labels and classes."""
        return self._listing(self._paths.text)

    def refuse_changes(self) -> None:
        """Raises `UserError` if a file was changed since the fingerprint was first asked for."""
        if "_stats" in vars(self):
            files.refuse_changes(self._stats, self._paths)

    def fault(self, index: int) -> str:
        """Returns why an image cannot be loaded; see `Dataset.fault`."""
        try:
            _load(self._paths[index])
        except BadImage as error:
            return str(error)
        return ""
