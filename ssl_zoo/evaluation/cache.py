"""Feature cache on disk: features of the same weights, images and view are extracted only once.

CACHE/DIGEST/features.json   what the features depend on; written last
             values.npy      (N, D) float32, read as a memory map
             images.npz      which images could be decoded (N,), digests of the network's inputs (N,)
             blocks-ROWS/    until complete: one file for each finished block
             .lock           held by the process that extracts

The ranks of one extraction write at once, each its own blocks; another process waits for them. A killed
process loses only its current block. The file that marks a block as finished has a checksum of it: what a
power failure took is made again. All values are on disk before the features count as complete.
"""

import errno
import hashlib
import json
import logging
import math
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_cache_path

from ssl_zoo.config import canonical_json
from ssl_zoo.errors import UserError
from ssl_zoo.files import locked, sync_folder, write_text

logger = logging.getLogger(__name__)

VERSION = 1
"""Version of the files and of the extraction; increased when either changes."""
BLOCK_ROWS = 1024
"""Minimum number of images per block."""
_UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)


def cache_folder() -> Path:
    """Returns the cache folder: SSL_ZOO_CACHE, or the user's cache folder if unset."""
    own = os.environ.get("SSL_ZOO_CACHE")
    return Path(own) if own else user_cache_path("ssl-zoo") / "features"


@dataclass(frozen=True)
class Block:
    """Features `(B, D)` of consecutive images, which of them could be decoded `(B,)`, digests `(B,)`."""

    values: NDArray[np.float32]
    kept: NDArray[np.bool_]
    digests: NDArray[np.uint64]


class CachedFeatures:
    """The cached features of one data set from one network.

    Args:
        root: folder of the cache.
        facts: everything the features depend on, as JSON values.
        least_rows: minimum number of images per block; `BLOCK_ROWS` if None.
    """

    def __init__(
        self, root: str | Path, facts: dict[str, Any], *, least_rows: int | None = None
    ) -> None:
        self._least_rows = least_rows
        text = canonical_json({"version": VERSION, **facts})
        self.facts: dict[str, Any] = json.loads(text)  # as it is read again: a tuple is a list
        digest = hashlib.sha256(text.encode()).hexdigest()[:20]
        self.path = Path(root) / digest
        self._values, self._images = self.path / "values.npy", self.path / "images.npz"
        self._finished = self.path / "features.json"

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Keeps other processes from extracting the same features during a `with` block; first waits
        for one that does.

        Raises:
            UserError: the folder cannot be written.
        """
        lock = self.path / ".lock"
        with ExitStack() as held:
            with _writing(self.path):
                self.path.mkdir(parents=True, exist_ok=True)
                ours = held.enter_context(locked(lock))
            if not ours:
                logger.info("another process extracts these features; waiting for it: '%s'", lock)
                held.enter_context(locked(lock, patience_s=math.inf))
            yield

    def is_complete(self) -> bool:
        """Returns whether the features are complete and undamaged.

        Raises:
            UserError: the folder holds other features.
        """
        return self._read() is not None

    def open(self) -> Block:
        """Returns the features as a memory map.

        Raises:
            UserError: the features are not complete, or damaged.
        """
        found = self._read()
        if found is None:
            raise UserError(
                f"cached features in '{self.path}' are not complete; the cache must be a folder shared by "
                "all processes: set SSL_ZOO_CACHE, or use no cache"
            )
        return found

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Returns a copy of some rows of complete features; no more of the file stays in memory."""
        found: NDArray[np.float32] = np.load(self._values, mmap_mode="r", allow_pickle=False)
        return np.array(found[start:stop])

    def _read(self) -> Block | None:
        if not self._finished.is_file():
            return None
        try:
            found = json.loads(self._finished.read_text(encoding="utf-8"))
            values = np.load(self._values, mmap_mode="r", allow_pickle=False)
            kept, digests = _load_marker(self._images, len(values))
        except _UNREADABLE as error:
            logger.warning("cached features in '%s' are damaged: %s", self.path, error)
            return None
        if found != self.facts:
            raise UserError(
                f"features in '{self.path}' belong to another checkpoint, data set or view than its "
                "name indicates; remove the folder"
            )
        return Block(values, kept, digests)

    def reopen(self, batch_size: int) -> None:
        """Makes complete features incomplete, so that blocks that lack images are computed again;
        damaged ones are removed.

        Raises:
            UserError: the folder cannot be written.
        """
        if not self._finished.is_file():
            return
        whole, rows = self._read(), self.block_rows(batch_size)
        if whole is None or not whole.kept.any():
            self.discard()
            return
        with _writing(self.path):
            self._markers(rows).mkdir(exist_ok=True)
            for number, start in enumerate(range(0, len(whole.kept), rows)):
                part = slice(start, start + rows)
                block = Block(whole.values[part], whole.kept[part], whole.digests[part])
                _save(self._marker(number, rows), block.kept, block.digests, _checksum(block))
            self._finished.unlink()

    def discard(self) -> None:
        """Removes the features, complete or not."""
        for path in (self._finished, self._images, self._values):
            path.unlink(missing_ok=True)
        self._remove_blocks()

    def block_rows(self, batch_size: int) -> int:
        """Returns the number of images per block: whole batches, so that a restart computes the same
        batches."""
        least = BLOCK_ROWS if self._least_rows is None else self._least_rows
        return -(-least // batch_size) * batch_size

    def missing(self, total: int, rows: int) -> list[int]:
        """Returns the blocks that are not computed yet, are damaged, or lack images: these may be
        readable now.

        Args:
            total: images in the data set.
            rows: images per block.

        Raises:
            UserError: the folder cannot be created.
        """
        with _writing(self.path):
            self._markers(rows).mkdir(parents=True, exist_ok=True)
            if self._shape() is None:  # missing, or damaged by a power failure
                self._values.unlink(missing_ok=True)
        n_blocks = -(-total // rows)
        here = self._values.is_file()
        missing = [
            number
            for number in range(n_blocks)
            if not (here and self._is_undamaged(number, rows, min(rows, total - number * rows)))
        ]
        if len(missing) < n_blocks:
            logger.info(
                "%d of %d blocks of features are already cached", n_blocks - len(missing), n_blocks
            )
        return missing

    def _is_undamaged(self, number: int, rows: int, length: int) -> bool:
        marker = self._marker(number, rows)
        if not marker.is_file():
            return False
        try:
            kept, digests = _load_marker(marker, length)
            if not kept.all():
                return False
            values = self.rows(number * rows, number * rows + length)
            with np.load(marker, allow_pickle=False) as found:
                expected = int(found["checksum"])
            if expected != _checksum(Block(values, kept, digests)):
                raise ValueError("its values are not those that were written")
            return True
        except _UNREADABLE as error:
            logger.warning("block '%s' is damaged and is made again: %s", marker, error)
            return False

    def write(self, number: int, rows: int, total: int, block: Block) -> None:
        """Writes a block, which counts as finished only when it is complete.

        Args:
            number: index of the block, from 0.
            rows: images per block.
            total: images in the data set.

        Raises:
            UserError: the block cannot be written.
        """
        with _writing(self.path):
            if block.kept.any():
                self._put(number * rows, total, block.values)
            self._markers(rows).mkdir(exist_ok=True)
            _save(self._marker(number, rows), block.kept, block.digests, _checksum(block))

    def finish(self, n_blocks: int, rows: int) -> None:
        """Marks the features as complete.

        Raises:
            UserError: blocks of other ranks are not visible here, or the disk is full.
        """
        try:
            parts = [_load_marker(self._marker(number, rows)) for number in range(n_blocks)]
        except FileNotFoundError:
            if self.is_complete():  # without locks, another process was faster
                self._remove_blocks()
                return
            raise UserError(
                f"blocks of features are not in '{self._markers(rows)}'; the cache must be a folder shared "
                "by all processes: set SSL_ZOO_CACHE, or use no cache"
            ) from None
        kept, digests = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        with _writing(self.path):
            if not kept.any():  # an error follows; there is nothing to cache
                np.save(self._values, np.zeros((len(kept), 0), dtype=np.float32))
            _save(self._images, kept, digests)
            for path in (self._values, self._images):
                _sync(path)
            write_text(self._finished, json.dumps(self.facts, indent=1) + "\n")
        self._remove_blocks()

    def _remove_blocks(self) -> None:
        for folder in self.path.glob("blocks-*"):
            shutil.rmtree(folder, ignore_errors=True)

    def _markers(self, rows: int) -> Path:
        return self.path / f"blocks-{rows}"

    def _marker(self, number: int, rows: int) -> Path:
        return self._markers(rows) / f"{number:06d}.npz"

    def _put(self, start: int, total: int, values: NDArray[np.float32]) -> None:
        """Writes rows of the file of values, which is first created at full size if missing."""
        shape = (total, values.shape[1])
        if not self._values.exists():
            _create(self._values, shape)
        found = self._shape()
        if found != shape:
            raise UserError(
                f"'{self._values}' has features of shape {found}, not {shape}; remove the folder"
            )
        offset = self._values.stat().st_size - 4 * shape[0] * shape[1]
        descriptor = os.open(self._values, os.O_WRONLY)
        try:
            _write_all(descriptor, values, offset + start * values.shape[1] * 4)
        finally:
            os.close(descriptor)

    def _shape(self) -> tuple[int, ...] | None:
        """Returns the shape of the file of values; None if it is missing or damaged."""
        try:
            found: tuple[int, ...] = np.load(self._values, mmap_mode="r", allow_pickle=False).shape
        except _UNREADABLE:
            return None
        return found


def _checksum(block: Block) -> int:
    """Returns a CRC-32 of the values of a block; 0 if it has none, which are not written."""
    return (
        zlib.crc32(np.ascontiguousarray(block.values, dtype="<f4").data) if block.kept.any() else 0
    )


def _save(
    path: Path, kept: NDArray[np.bool_], digests: NDArray[np.uint64], checksum: int = 0
) -> None:
    """Writes which images are present, their digests, and a checksum of their values."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with aside.open("wb") as file:
        np.savez(file, kept=kept, digests=digests, checksum=np.array(checksum))
    aside.replace(path)


def _sync(path: Path) -> None:
    """Makes a file and its name survive a power failure."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
    sync_folder(path.parent)


def _load_marker(path: Path, length: int | None = None) -> tuple[NDArray[Any], NDArray[Any]]:
    with np.load(path, allow_pickle=False) as found:
        kept, digests = found["kept"], found["digests"]
    if len(kept) != len(digests) or length not in (None, len(kept)):
        raise ValueError(f"'{path}' is of {len(kept)} images instead of {length}")
    return kept, digests


def _create(path: Path, shape: tuple[int, int]) -> None:
    """Creates a file of zeros with its space allocated, unless another process was faster."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with aside.open("wb") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            file.flush()
            end = file.tell() + 4 * shape[0] * shape[1]
            os.posix_fallocate(file.fileno(), 0, end)
            os.fsync(file.fileno())
        try:
            os.link(aside, path)
        except FileExistsError:  # another process was faster
            pass
        except OSError:  # a file system without hard links
            if not path.exists():
                aside.replace(path)
        sync_folder(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def _write_all(descriptor: int, values: NDArray[np.float32], offset: int) -> None:
    rest = np.ascontiguousarray(values, dtype="<f4").data.cast("B")
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[written:], offset + written


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Reports a full disk or an unwritable folder in one line."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise UserError(
            f"features cannot be cached in '{path}' ({reason}); "
            f"{'make room' if full else 'choose another folder'}, set SSL_ZOO_CACHE, or use no "
            "cache"
        ) from None
