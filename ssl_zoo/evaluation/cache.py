"""Features kept on disk: extracted once for equal weights, images and view, block by block.

CACHE/DIGEST/features.json   what they are of; written last, when all is there
             values.npy      (N, D) float32, to be read as a memory map
             images.npz      which images could be decoded (N,), and digests of what was seen (N,)
             blocks-ROWS/    until then: a file for each block that is in values.npy already

Any number of processes may write, each its own blocks; one that is killed loses the block at hand.
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
"""Counts changes of the files, and of what features depend on besides the facts."""
BLOCK_ROWS = 1024
"""Images of a block at least."""


def cache_folder() -> Path:
    """Returns where features are kept: what SSL_ZOO_CACHE says, else the user's cache folder."""
    own = os.environ.get("SSL_ZOO_CACHE")
    return Path(own) if own else user_cache_path("ssl-zoo") / "features"


@dataclass(frozen=True)
class Block:
    """Features `(B, D)` of neighbouring images, which could be decoded `(B,)`, digests `(B,)`."""

    values: NDArray[np.float32]
    kept: NDArray[np.bool_]
    digests: NDArray[np.uint64]


class CachedFeatures:
    """The features of one data set from one network.

    Args:
        root: folder of the cache.
        facts: everything the features depend on, ready for JSON.
    """

    def __init__(self, root: str | Path, facts: dict[str, Any]) -> None:
        self.facts = {"version": VERSION, **facts}
        digest = hashlib.sha256(canonical_json(self.facts).encode()).hexdigest()[:20]
        self.path = Path(root) / digest
        self._values, self._images = self.path / "values.npy", self.path / "images.npz"
        self._finished = self.path / "features.json"

    def is_complete(self) -> bool:
        """Says whether all features are there.

        Raises:
            UserError: those in the folder are of something else, or files of it are missing.
        """
        if not self._finished.is_file():
            return False
        try:
            found = json.loads(self._finished.read_text(encoding="utf-8"))
        except ValueError:
            found = None
        if found != self.facts:
            raise UserError(
                f"features in '{self.path}' are of another checkpoint, data set or view than its "
                "name says; remove the folder"
            )
        return True

    def block_rows(self, batch_size: int) -> int:
        """Returns the images of a block: whole batches, so that a restart makes the same ones."""
        return -(-BLOCK_ROWS // batch_size) * batch_size

    def missing(self, n_blocks: int, rows: int) -> list[int]:
        """Returns the blocks that are still to be computed.

        Raises:
            UserError: the folder cannot be made.
        """
        with _writing(self.path):
            self._markers(rows).mkdir(parents=True, exist_ok=True)
        here = self._values.is_file()
        missing = [n for n in range(n_blocks) if not (here and self._marker(n, rows).is_file())]
        if len(missing) < n_blocks:
            logger.info(
                "%d of %d blocks of features are there already", n_blocks - len(missing), n_blocks
            )
        return missing

    def write(self, number: int, rows: int, total: int, block: Block) -> None:
        """Writes a block; it counts as there only once it is whole.

        Args:
            number: of the block, from 0.
            rows: images of a block.
            total: images of the data set.

        Raises:
            UserError: it cannot be written.
        """
        with _writing(self.path):
            if block.kept.any():
                self._put(number * rows, total, block.values)
            marker = self._marker(number, rows)
            aside = marker.with_name(f".{marker.name}.{os.getpid()}.npz")
            np.savez(aside, kept=block.kept, digests=block.digests)
            aside.replace(marker)

    def finish(self, n_blocks: int, rows: int) -> None:
        """Declares the features complete.

        Raises:
            UserError: blocks that other processes wrote are not seen here, or no space is left.
        """
        absent = [n for n in range(n_blocks) if not self._marker(n, rows).is_file()]
        if absent and not self.is_complete():
            raise UserError(
                f"{len(absent)} of {n_blocks} blocks of features are not in '{self.path}'; the cache "
                "must be a folder that all processes share: set SSL_ZOO_CACHE, or do without it"
            )
        if absent:  # another process was faster
            return
        parts = []
        for number in range(n_blocks):
            with np.load(self._marker(number, rows), allow_pickle=False) as part:
                parts.append((part["kept"], part["digests"]))
        kept, digests = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        with _writing(self.path):
            if not kept.any():  # an error will tell; nothing that would be worth keeping
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
        """Writes rows of the big file, which is made, with all its space, where there is none."""
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
    """Makes a file of zeros with its space on the disk, unless another process was faster."""
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
        except FileExistsError:  # of the process that was faster
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
    """Turns a full disk or a folder that may not be written into one line."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise UserError(
            f"features cannot be kept in '{path}' ({reason}); "
            f"{'make room' if full else 'choose another folder'}, set SSL_ZOO_CACHE, or do without "
            "a cache"
        ) from None
