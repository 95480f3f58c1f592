"""Digests of image files: which data sets are the same, and where two differ.

All bytes count if a split has at most `WHOLE_FILES` files of `WHOLE_BYTES` together. Of a larger split,
names and sizes count, and the bytes of `SAMPLED` files at even distances in the order of names; of a
sampled file larger than twice `ENDS`, its first and last `ENDS` bytes. None of this changes if the
files are copied elsewhere. A cache on this machine also depends on the time of modification and the
inode of each file of a larger split.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ssl_zoo.errors import UserError

WHOLE_FILES = 20_000
"""Largest number of files of which all bytes are read."""
WHOLE_BYTES = 256 * 2**20
"""Largest total size of files of which all bytes are read."""
SAMPLED = 1000
"""Number of files of a larger split whose bytes are read."""
ENDS = 2**20
"""Bytes that are read at each end of a large sampled file."""
_THREADS = 8  # network file systems answer several questions at once
_AT_ONCE = 4096  # files whose answers are awaited together

FoundT = TypeVar("FoundT")


def stats_of(paths: Sequence[Path]) -> NDArray[np.int64]:
    """Returns size, time of modification in nanoseconds and inode of files, `(N, 3)`; -1 for a file
    that cannot be read."""
    return np.array(list(_map(_stat, paths)), dtype=np.int64).reshape(-1, 3)


def digests_of(
    names: Sequence[str], paths: Sequence[Path], stats: NDArray[np.int64]
) -> NDArray[np.uint64]:
    """Returns a digest of each file, `(N,)`: of its name, its size and, if it counts, its content."""
    sizes = stats[:, 0]
    counted = sample_of(sizes)
    whole = len(counted) == len(paths)
    read = _map(lambda path: _content(path, whole=whole), [paths[place] for place in counted])
    contents = dict(zip(counted.tolist(), read, strict=True))
    return np.array(
        [
            short(os.fsencode(name), str(size).encode(), contents.get(place, b""))
            for place, (name, size) in enumerate(zip(names, sizes.tolist(), strict=True))
        ],
        dtype=np.uint64,
    )


def is_whole(stats: NDArray[np.int64]) -> bool:
    """Returns whether all bytes of these files count."""
    return len(stats) <= WHOLE_FILES and int(stats[:, 0].clip(0).sum()) <= WHOLE_BYTES


def short(*parts: bytes | memoryview) -> int:
    """Returns a 64-bit digest of byte strings."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return int.from_bytes(digest.digest()[:8], "little")


def with_labels(digests: NDArray[np.uint64], labels: Tensor | None) -> NDArray[np.uint64]:
    """Returns digests of images `(N,)` that also depend on their labels, `(N,)` or `(N, C)`."""
    if labels is None or not len(labels):
        return digests
    values = labels.numpy()
    axis = 0 if values.ndim > 1 else None  # many times slower than without, even for one column
    rows, place = np.unique(values, axis=axis, return_inverse=True)
    mixed = np.array([short(row.tobytes()) for row in rows], dtype=np.uint64)
    return np.bitwise_xor(digests, mixed[place.reshape(-1)])


def combined(*parts: bytes | memoryview) -> str:
    """Returns a digest of byte strings as 16 hexadecimal digits."""
    return f"{short(*parts):016x}"


def refuse_changes(before: NDArray[np.int64], paths: Sequence[Path]) -> None:
    """Compares files with what `stats_of` found earlier.

    Raises:
        UserError: a file was changed, replaced or removed since.
    """
    changed = np.flatnonzero((stats_of(paths) != before).any(axis=1))
    if len(changed):
        raise UserError(
            f"{len(changed)} of {len(paths)} images changed while they were read, such as "
            f"'{paths[int(changed[0])]}'; start again when the data is complete"
        )


def sample_of(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the positions of the files whose bytes count."""
    n = len(sizes)
    if is_whole(sizes[:, None]):
        return np.arange(n)
    return np.unique(np.linspace(0, n - 1, SAMPLED).astype(np.int64))


def _stat(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return -1, -1, -1
    return found.st_size, found.st_mtime_ns, found.st_ino


def _content(path: Path, *, whole: bool) -> bytes:
    """Returns a digest of a file's bytes, or of its ends."""
    try:
        with path.open("rb") as file:
            if whole or os.fstat(file.fileno()).st_size <= 2 * ENDS:
                return hashlib.file_digest(file, "sha256").digest()
            digest = hashlib.sha256(file.read(ENDS))
            file.seek(-ENDS, os.SEEK_END)
            digest.update(file.read())
            return digest.digest()
    except OSError:
        return b"cannot be read"


def _map(work: Callable[[Path], FoundT], paths: Sequence[Path]) -> Iterator[FoundT]:
    """Yields `work(path)` for each path, several at once."""
    rest = iter(paths)
    with ThreadPoolExecutor(_THREADS) as pool:
        while some := list(islice(rest, _AT_ONCE)):
            yield from pool.map(work, some)
