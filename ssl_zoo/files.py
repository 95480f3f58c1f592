"""Files that a reader sees whole or not at all, their digests, and locks between processes."""

import glob
import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

logger = logging.getLogger(__name__)


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Writes a small file so that a reader sees the old text or the new, never half of it."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with aside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def remove_unfinished(path: Path) -> None:
    """Removes what `write_text` left beside a file because its process was killed.

    The caller must be the only one that writes the file.
    """
    for aside in path.parent.glob(f".{glob.escape(path.name)}.*"):
        if aside.name.rpartition(".")[2].isdigit():
            aside.unlink(missing_ok=True)


def set_aside(path: Path) -> Path:
    """Renames a damaged file to `NAME.damaged`, or `NAME.damaged-2` if that exists, and returns it.

    Raises:
        OSError: it cannot be renamed.
    """
    aside, number = path.with_name(f"{path.name}.damaged"), 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{number}")
    return path.rename(aside)


def sync_folder(folder: Path) -> None:
    """Makes renamed and new files of a folder survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path, *, patience_s: float = 0.0) -> Iterator[bool]:
    """Yields whether this process holds a lock; it ends with the block, or with the process.

    Some network file systems have no locks: there every process holds it, with a warning.

    Args:
        path: the lock file; its folder exists.
        patience_s: seconds to wait for another process.

    Raises:
        OSError: the file cannot be opened.
    """
    with path.open("a"):  # raises what the user must know before anything about locks is asked
        lock = FileLock(path)
    try:
        lock.acquire(timeout=patience_s, poll_interval=0.2)
    except Timeout:
        yield False
        return
    except (OSError, NotImplementedError) as error:
        logger.warning("'%s' cannot be locked (%s)", path, getattr(error, "strerror", error))
        yield True
        return
    try:
        yield True
    finally:
        lock.release()
