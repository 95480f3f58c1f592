"""An index of a large folder of images, so that only its first reader walks through it.

FOLDER/DIGEST.json           what it is an index of, its folders with times of modification, and the name of
FOLDER/DIGEST-NUMBER/        names.bin    relative paths, one after the other
                             ends.npy     where each ends, (N,)
                             labels.npy   class of each image, (N,), if there are classes
                             stats.npy    size, time of modification and inode of each file, (N, 3)
                             digests.npy  digest of each file, (N,)

The last two are made with the first fingerprint, which needs them.

An index is used as long as each folder in it has the same inode and time of modification: images that
are added, removed or renamed change the latter. Bytes that are written into a file that exists do not;
the fingerprint finds them if the file is among those that are sampled. The arrays are memory maps,
shared by all processes of a machine.
"""

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_cache_path

from ssl_zoo import distributed
from ssl_zoo.data.walk import EXTENSIONS
from ssl_zoo.files import locked, write_text

logger = logging.getLogger(__name__)

LEAST = 20_001
"""Number of images from which on a folder is indexed: all bytes of fewer may count in a fingerprint."""
SETTLED_S = 2
"""Seconds that a folder must not have changed before the walk: clocks of file systems are coarse."""
PATIENCE_S = 3600.0
"""Longest time in seconds to wait for another process that walks through the same folder."""
UNUSED_S = 3600.0
"""Age in seconds from which on an index that has been replaced is removed."""
_VERSION = 1


def index_folder() -> Path:
    """Returns where indexes are: in SSL_ZOO_CACHE, or in the user's cache folder if unset."""
    own = os.environ.get("SSL_ZOO_CACHE")
    return (Path(own) if own else user_cache_path("ssl-zoo")) / "indexes"


@dataclass(frozen=True)
class Listing:
    """Images of a folder, in order.

    Attributes:
        text: relative paths, one after the other.
        ends: where each ends, `(N,)`.
        class_names: names of the classes.
        labels: class of each image, `(N,)`; None without classes.
        endings: extensions of the images.
    """

    text: bytes | NDArray[np.uint8]
    ends: NDArray[np.int64]
    class_names: list[str]
    labels: NDArray[np.int64] | None
    endings: list[str]


def times_of(folder: Path, names: Sequence[str]) -> dict[str, list[int]]:
    """Returns time of modification in nanoseconds and inode of folders, given relative to one."""
    found = {}
    for name in names:
        stat = (folder / name).stat()
        found[name] = [stat.st_mtime_ns, stat.st_ino]
    return found


def _age(path: Path) -> float:
    """Returns the seconds since a folder was last changed; 0 if it is gone."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


class FolderIndex:
    """The index of what some settings make of a folder.

    Args:
        start: the folder.
        settings: what the images, their order and their labels depend on beside the folder's content.
    """

    def __init__(self, start: Path, settings: Mapping[str, Any]) -> None:
        self._start = start.resolve()
        rules = {"version": _VERSION, "extensions": sorted(EXTENSIONS)}
        self._facts = {**rules, "start": str(self._start), **settings}
        text = json.dumps(self._facts, sort_keys=True)
        self._root = index_folder()
        self._name = hashlib.sha256(text.encode()).hexdigest()[:20]
        self._file = self._root / f"{self._name}.json"
        self._small = self._root / f"{self._name}.small"
        self._place: Path | None = None

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Lets only one rank walk through a large folder during a `with` block; others wait for it."""
        with ExitStack() as held:
            if distributed.world_size() > 1 and not self._small.exists():
                try:
                    self._root.mkdir(parents=True, exist_ok=True)
                    lock = self._file.with_suffix(".lock")
                    held.enter_context(locked(lock, patience_s=PATIENCE_S))
                except OSError as error:
                    logger.debug("'%s' cannot be used: %s", self._root, error)
                if self._small.exists():
                    held.close()
            yield

    def _note_small(self) -> None:
        """Tells ranks that wait that the folder needs no index."""
        if distributed.world_size() > 1:
            with suppress(OSError):
                self._small.touch()

    def read(self) -> Listing | None:
        """Returns the images as memory maps; None if there is no index, or the folder has changed."""
        try:
            found = json.loads(self._file.read_text(encoding="utf-8"))
            if found["facts"] != self._facts:
                return None
            if times_of(self._start, list(found["folders"])) != found["folders"]:
                logger.info("'%s' has changed; it is walked through again", self._start)
                return None
            place = self._root / found["place"]
            ends = np.load(place / "ends.npy", mmap_mode="c")
            labels = np.load(place / "labels.npy", mmap_mode="c") if found["has_labels"] else None
            text = np.memmap(place / "names.bin", dtype=np.uint8, mode="r")
            if len(ends) != found["count"] or len(text) != ends[-1]:
                raise ValueError("its files do not belong together")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("index '%s' is damaged and is made again: %s", self._file, error)
            return None
        self._place = place
        return Listing(text, ends, found["class_names"], labels, found["endings"])

    def write(self, listed: Listing, folders: Mapping[str, list[int]], *, began: float) -> bool:
        """Writes an index of a large folder that has not just changed, and returns whether it did.

        Args:
            listed: the images.
            folders: what `times_of` returned for all folders in it.
            began: time at which the walk began, in seconds.
        """
        if len(listed.ends) < LEAST:
            self._note_small()
            return False
        newest = max(changed for changed, _ in folders.values())
        if newest > (began - SETTLED_S) * 1e9:
            logger.info("'%s' has just changed, so no index of it is written", self._start)
            return False
        place = self._root / f"{self._name}-{time.time_ns():x}-{os.getpid()}"
        try:
            place.mkdir(parents=True)
            (place / "names.bin").write_bytes(bytes(listed.text))
            np.save(place / "ends.npy", listed.ends)
            if listed.labels is not None:
                np.save(place / "labels.npy", listed.labels)
            facts = {
                "facts": self._facts,
                "place": place.name,
                "count": len(listed.ends),
                "has_labels": listed.labels is not None,
                "class_names": listed.class_names,
                "endings": listed.endings,
                "folders": folders,
            }
            write_text(self._file, json.dumps(facts))
        except OSError as error:
            logger.warning("no index of '%s' can be written: %s", self._start, error)
            shutil.rmtree(place, ignore_errors=True)
            return False
        self._place = place
        self._small.unlink(missing_ok=True)
        for old in self._root.glob(f"{self._name}-*"):
            if old != place and _age(old) > UNUSED_S:  # another process may be writing it
                shutil.rmtree(old, ignore_errors=True)
        logger.info("%d images of '%s' are indexed in '%s'", len(listed.ends), self._start, place)
        return True

    def array(self, name: str) -> NDArray[Any] | None:
        """Returns an array that was kept beside the images, as a memory map; None if there is none."""
        if self._place is None:
            return None
        try:
            found: NDArray[Any] = np.load(self._place / f"{name}.npy", mmap_mode="c")
        except (OSError, ValueError, EOFError):
            return None
        return found

    def keep(self, name: str, values: NDArray[Any]) -> None:
        """Keeps an array beside the images, if the index exists and can be written."""
        if self._place is None:
            return
        aside = self._place / f".{name}.{os.getpid()}.npy"
        try:
            np.save(aside, values)
            aside.replace(self._place / f"{name}.npy")
        except OSError as error:
            logger.debug("'%s' cannot be written: %s", aside, error)

    def drop(self, *names: str) -> None:
        """Removes arrays that are no longer true."""
        if self._place is None:
            return
        for name in names:
            with suppress(OSError):
                (self._place / f"{name}.npy").unlink(missing_ok=True)
