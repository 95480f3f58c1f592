"""Features in a file larger than memory: reading rows, and releasing memory."""

import mmap
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray


def take(values: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
    """Returns a copy of some rows, in any order.

    Rows of a memory map are read from its file, because accessing a row through the map makes the
    system load up to megabytes around it.
    """
    file = _file(values)
    if file is None or not values.flags.c_contiguous or not isinstance(values, np.memmap):
        return values[rows]
    whole = np.frombuffer(file, dtype=np.uint8)
    place = values.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
    place += values.offset - values.offset % mmap.ALLOCATIONGRANULARITY
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


def _file(values: NDArray[Any]) -> mmap.mmap | None:
    """Returns the memory map behind a read-only array."""
    if not isinstance(values, np.memmap) or values.mode != "r":
        return None
    file = getattr(values, "_mmap", None)
    return file if isinstance(file, mmap.mmap) else None
