"""Feature cache on disk: features of the same weights, images and view are extracted only once.

CACHE/DIGEST/features.json   what the features depend on; written last
             values.npy      (N, D) float32, read as a memory map
             images.npz      which images could be decoded (N,), digests of the network's inputs (N,)
             blocks-ROWS/    until complete: one file for each finished block

Several processes can write at once, each its own blocks; a killed process loses only its current block.
"""

import errno
import hashlib
import json
import logging
import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_cache_path

from ssl_zoo.config import canonical_json
from ssl_zoo.errors import UserError
from ssl_zoo.files import write_text

logger = logging.getLogger(__name__)

VERSION = 1
"""Version of the files and of the extraction; increased when either changes."""
BLOCK_ROWS = 1024
"""Minimum number of images per block."""


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
    """

    def __init__(self, root: str | Path, facts: dict[str, Any]) -> None:
        self.facts = {"version": VERSION, **facts}
        digest = hashlib.sha256(canonical_json(self.facts).encode()).hexdigest()[:20]
        self.path = Path(root) / digest
        self._values, self._images = self.path / "values.npy", self.path / "images.npz"
        self._finished = self.path / "features.json"

    def is_complete(self) -> bool:
        """Returns whether the features are complete.

        Raises:
            UserError: the folder holds other features, or files are missing.
        """
        if not self._finished.is_file():
            return False
        try:
            found = json.loads(self._finished.read_text(encoding="utf-8"))
        except ValueError:
            found = None
        if found != self.facts:
            raise UserError(
                f"features in '{self.path}' belong to another checkpoint, data set or view than its "
                "name indicates; remove the folder"
            )
        return True

    def block_rows(self, batch_size: int) -> int:
        """Returns the number of images per block: whole batches, so that a restart computes the same
        batches."""
        return -(-BLOCK_ROWS // batch_size) * batch_size

    def missing(self, n_blocks: int, rows: int) -> list[int]:
        """Returns the blocks that are not computed yet.

        Raises:
            UserError: the folder cannot be created.
        """
        with _writing(self.path):
            self._markers(rows).mkdir(parents=True, exist_ok=True)
        here = self._values.is_file()
        missing = [n for n in range(n_blocks) if not (here and self._marker(n, rows).is_file())]
        if len(missing) < n_blocks:
            logger.info(
                "%d of %d blocks of features are already cached", n_blocks - len(missing), n_blocks
            )
        return missing

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
            marker = self._marker(number, rows)
            aside = marker.with_name(f".{marker.name}.{os.getpid()}.npz")
            np.savez(aside, kept=block.kept, digests=block.digests)
            aside.replace(marker)

    def finish(self, n_blocks: int, rows: int) -> None:
        """Marks the features as complete.

        Raises:
            UserError: blocks written by other processes are not visible here, or the disk is full.
        """
        absent = [n for n in range(n_blocks) if not self._marker(n, rows).is_file()]
        if absent and not self.is_complete():
            raise UserError(
                f"{len(absent)} of {n_blocks} blocks of features are not in '{self.path}'; the cache "
                "must be a folder shared by all processes: set SSL_ZOO_CACHE, or use no cache"
            )
        if absent:  # another process was faster
            return
        parts = []
        for number in range(n_blocks):
            with np.load(self._marker(number, rows), allow_pickle=False) as part:
                parts.append((part["kept"], part["digests"]))
        kept, digests = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        with _writing(self.path):
            if not kept.any():  # an error follows; there is nothing to cache
                np.save(self._values, np.zeros((len(kept), 0), dtype=np.float32))
            aside = self._images.with_name(f".images.{os.getpid()}.npz")
            np.savez(aside, kept=kept, digests=digests)
            aside.replace(self._images)
            write_text(self._finished, json.dumps(self.facts, indent=1) + "\n")
        for folder in self.path.glob("blocks-*"):
            shutil.rmtree(folder, ignore_errors=True)

    def open(self) -> Block:
        """Returns the features as a memory map.

        Raises:
            UserError: files are missing or damaged.
        """
        try:
            values = np.load(self._values, mmap_mode="r", allow_pickle=False)
            with np.load(self._images, allow_pickle=False) as images:
                return Block(values, images["kept"], images["digests"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(
                f"cached features in '{self.path}' are damaged ({error}); remove the folder"
            ) from None

    def _markers(self, rows: int) -> Path:
        return self.path / f"blocks-{rows}"

    def _marker(self, number: int, rows: int) -> Path:
        return self._markers(rows) / f"{number:06d}.npz"

    def _put(self, start: int, total: int, values: NDArray[np.float32]) -> None:
        """Writes rows of the file of values, which is first created at full size if missing."""
        shape = (total, values.shape[1])
        if not self._values.exists():
            _create(self._values, shape)
        with self._values.open("rb") as file:
            np.lib.format.read_magic(file)
            found, _, _ = np.lib.format.read_array_header_1_0(file)
            offset = file.tell()
        if found != shape:
            raise UserError(
                f"'{self._values}' has features of shape {found}, not {shape}; remove the folder"
            )
        descriptor = os.open(self._values, os.O_WRONLY)
        try:
            _write_all(descriptor, values, offset + start * values.shape[1] * 4)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


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
        try:
            os.link(aside, path)
        except FileExistsError:  # another process was faster
            pass
        except OSError:  # a file system without hard links
            if not path.exists():
                aside.replace(path)
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
