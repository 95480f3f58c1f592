"""Images that are read from files on demand."""

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self, overload

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from ssl_zoo.data import fingerprint as files
from ssl_zoo.data.base import Dataset
from ssl_zoo.data.decoded import DecodedImages
from ssl_zoo.data.decoding import read_image
from ssl_zoo.data.index import FolderIndex
from ssl_zoo.data.other_files import BadImage
from ssl_zoo.errors import UserError

READING = b"upright, over white"
"""How files are read; cached features of files that were read in another way are not used."""


class PathList(Sequence[Path]):
    """Relative paths in one block of memory that loader processes share without copying.

    A list of a million strings would be copied page by page as their reference counts change.
    """

    def __init__(self, folder: Path, names: list[str]) -> None:
        encoded = [os.fsencode(name) for name in names]
        lengths = np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded))
        self._set(folder, b"".join(encoded), lengths.cumsum())

    @classmethod
    def of(cls, folder: Path, text: bytes | NDArray[np.uint8], ends: NDArray[np.int64]) -> Self:
        """Returns a list of paths that lie one after the other, and end at `ends`."""
        made = cls.__new__(cls)
        made._set(folder, text, ends)
        return made

    def _set(self, folder: Path, text: bytes | NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        self.folder, self.text, self.ends = folder, text, ends

    def __len__(self) -> int:
        return len(self.ends)

    def name(self, index: int) -> str:
        """Returns a path relative to the folder."""
        start = int(self.ends[index - 1]) if index else 0
        return os.fsdecode(bytes(self.text[start : int(self.ends[index])]))

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


class FilesConfig(Dataset.Config):
    """Settings of images that are read from files."""

    LATER: ClassVar[frozenset[str]] = frozenset({"decoded_mb", "shrink_to"})

    shrink_to: int | None = Field(default=None, ge=16)
    """Shorter side in pixels that JPEG files keep when they are decoded at a half, quarter or eighth of
    their size, which takes as much less time; other files and smaller ones keep their size. None decodes all
    at full size."""
    decoded_mb: int = Field(default=1000, ge=0)
    """Size of all decoded images of a split, in MB, up to which training keeps them in a file in the cache
    folder that all processes map into memory; 0 decodes an image each time it is used. The pixels are the
    same."""
    max_corrupt: int = Field(default=100, ge=0)
    """Number of images that may fail to decode before a run stops."""


class ImageFiles(Dataset):
    """Images that are read from files on demand.

    Attributes:
        decoded: the images as they were decoded; None reads files.
    """

    in_memory = False
    decoded: DecodedImages | None = None
    _paths: PathList
    _index: FolderIndex | None = None

    def __len__(self) -> int:
        return len(self._paths)

    def load(self, indices: Tensor) -> list[Tensor | None] | Tensor:
        """Decodes the images at positions `(B,)`; None for an image that cannot be loaded.

        Raises:
            UserError: an image has other channels or bits than the data set.
        """
        image = self.read if self.decoded is None else self.decoded.get
        return [image(index) for index in indices.tolist()]

    def read(self, index: int) -> Tensor | None:
        """Decodes the file of an image; None if it cannot be loaded.

        Raises:
            UserError: it has other channels or bits than the data set.
        """
        try:
            return read_image(self._paths[index], self.config, shrink_to=self._shrink_to)
        except BadImage:
            return None

    @property
    def _shrink_to(self) -> int | None:
        return self.config.shrink_to if isinstance(self.config, FilesConfig) else None

    def describe(self, index: int) -> str:
        """Returns the path of an image."""
        return str(self._paths[index])

    def file_name(self, index: int) -> str:
        """Returns the path of an image relative to the folder."""
        return self._paths.name(index)

    @functools.cached_property
    def _stats(self) -> NDArray[np.int64]:
        """Size, time of modification and inode of each file as they are now."""
        found = files.stats_of(self._paths)
        if self._index is not None:
            kept = self._index.array("stats")
            if kept is None or not np.array_equal(kept, found):
                self._index.drop("digests")
                self._index.keep("stats", found)
        return found

    @property
    def _stats_for_digests(self) -> NDArray[np.int64]:
        """What the index knows of the files, if it is true of a sample; else what they are now."""
        kept = self._index.array("stats") if self._index is not None else None
        if "_stats" not in vars(self) and kept is not None and len(kept) == len(self):
            some = files.sample_of(kept[:, 0])
            now = files.stats_of([self._paths[place] for place in some.tolist()])
            if (now == kept[some]).all():
                return kept
        return self._stats

    @functools.cached_property
    def image_digests(self) -> NDArray[np.uint64]:
        """Digests of name, size, content and label of each image, `(N,)`; see `fingerprint`."""
        stats = self._stats_for_digests  # first, as it may find that digests are no longer true
        found = self._index.array("digests") if self._index is not None else None
        if found is None or len(found) != len(self):
            names = [self._paths.name(place) for place in range(len(self))]
            found = files.digests_of(names, self._paths, stats)
            if self._index is not None:
                self._index.keep("digests", found)
        return files.with_labels(found, self.labels)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Digest of names, sizes, contents and labels; see `ssl_zoo.data.fingerprint`."""
        return files.combined(self.image_digests.tobytes(), *map(os.fsencode, self.class_names))

    @property
    def cache_key(self) -> str:
        """Also depends on time of modification and inode, unless all bytes are in the fingerprint."""
        when = b"" if files.is_whole(self._stats) else self._stats.tobytes()
        how = READING if self._shrink_to is None else READING + b", %d" % self._shrink_to
        return files.combined(self.fingerprint.encode(), when, how)

    @property
    def listing(self) -> str:
        """Digest of the number, names, labels and classes."""
        text = self._paths.text
        return self._listing(text if isinstance(text, bytes) else memoryview(text.data))

    def refuse_changes(self) -> None:
        """Raises `UserError` if a file was changed since the fingerprint was first asked for."""
        if "_stats" not in vars(self):
            return
        try:
            files.refuse_changes(self._stats, self._paths)
        except UserError:
            if self._index is not None:
                self._index.drop("stats", "digests")
            raise

    def fault(self, index: int) -> str:
        """Returns why an image cannot be loaded; see `Dataset.fault`."""
        try:
            read_image(self._paths[index], self.config, shrink_to=self._shrink_to)
        except BadImage as error:
            return str(error)
        return ""
