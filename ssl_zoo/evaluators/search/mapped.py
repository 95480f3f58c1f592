"""Features in a file larger than memory: reading rows, and releasing memory."""

import mmap
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_zoo.errors import UserError


@dataclass(frozen=True)
class Mapped:
    """Where the rows of a memory map are, for other processes.

    Attributes:
        path: file.
        offset: bytes before the first row.
    """

    path: str
    offset: int

    def open(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Returns the rows as a memory map of this process.

        Raises:
            UserError: the file cannot be read.
        """
        try:
            return np.memmap(self.path, np.float32, mode="r", offset=self.offset, shape=shape)
        except (OSError, ValueError) as error:
            raise UserError(
                f"features '{self.path}' cannot be read ({error}); all ranks must see the same cache"
            ) from None


def mapped_rows(values: NDArray[Any]) -> Mapped | None:
    """Returns where consecutive rows of a memory map of float32 are; None for other arrays."""
    file = _file(values)
    if file is None or not isinstance(values, np.memmap) or values.dtype != np.float32:
        return None
    if not values.flags.c_contiguous:
        return None
    return Mapped(str(values.filename), _place(values, file))


def take(values: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
    """Returns a copy of some rows, in any order.

    Rows of a memory map are read from its file, because accessing a row through the map makes the
    system load up to megabytes around it.
    """
    file = _file(values)
    if file is None or not values.flags.c_contiguous or not isinstance(values, np.memmap):
        return values[rows]
    place = _place(values, file)
    found = np.empty((len(rows), *values.shape[1:]), dtype=values.dtype)
    stride = values.strides[0]
    descriptor = os.open(str(values.filename), os.O_RDONLY)
    try:
        for row, target in zip(rows.tolist(), found, strict=True):
            if os.preadv(descriptor, [target.data], place + row * stride) != stride:
                raise OSError(f"'{values.filename}' ends before row {row}")
    finally:
        os.close(descriptor)
    return found


def let_go(values: NDArray[Any]) -> None:
    """Releases the pages of a memory map; reading again reads the file.

    Does nothing for other arrays.
    """
    file = _file(values)
    if file is not None and hasattr(mmap, "MADV_DONTNEED"):
        file.madvise(mmap.MADV_DONTNEED)


def _place(values: np.memmap[Any, Any], file: mmap.mmap) -> int:
    """Returns the position of the first row in the file."""
    whole = np.frombuffer(file, dtype=np.uint8)
    place: int = values.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
    return place + values.offset - values.offset % mmap.ALLOCATIONGRANULARITY


def _file(values: NDArray[Any]) -> mmap.mmap | None:
    """Returns the memory map behind a read-only array."""
    if not isinstance(values, np.memmap) or values.mode != "r":
        return None
    file = getattr(values, "_mmap", None)
    return file if isinstance(file, mmap.mmap) else None
