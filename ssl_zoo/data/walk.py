"""Walks through a folder of images: each real folder once, whatever links lead to it."""

import logging
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ssl_zoo.errors import UserError

logger = logging.getLogger(__name__)

EXTENSIONS = (
    *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".gif", ".npy"),
    *(".heic", ".heif", ".dcm", ".dicom"),
)
"""Extensions of image files, in lower case."""
_OF_THE_SYSTEM = "lost+found"  # at the root of a disk, for its administrator only
_NAMED = 5  # unreadable entries named in a message


def is_image(name: str) -> bool:
    """Returns whether a file name is that of an image."""
    return name.lower().endswith(EXTENSIONS) and not name.startswith(".")


def ending_of(name: str) -> str:
    """Returns the extension of a file name in lower case, or `without extension`."""
    return os.path.splitext(name)[1].lower() or "without extension"


def tell_of_others(folder: Path, names: Iterable[str]) -> None:
    """Logs the number of files that are not read as images, by extension."""
    found = Counter(map(ending_of, names))
    if found:
        counts = ", ".join(f"{count} {ending}" for ending, count in found.most_common())
        logger.info("files in '%s' that are not read as images: %s", folder, counts)


def reason_of(error: OSError) -> str:
    """Returns why a file cannot be read, such as `permission denied`."""
    return os.strerror(error.errno).lower() if error.errno else str(error)


@dataclass(frozen=True)
class Level:
    """A folder without its hidden entries.

    Attributes:
        name: its path relative to the start; empty for the start itself.
        folders: names of the folders in it, and of the links to folders, sorted.
        files: names of the files in it.
    """

    name: str
    folders: list[str]
    files: list[str]


@dataclass
class Walk:
    """Iterates over a folder and all folders below it.

    Links are followed, but no real folder is visited twice: folders are visited first where they
    really are. A link to the start or to a folder above it leads nowhere.

    Attributes:
        start: the folder.
        unreadable: entries that cannot be read, with the reason, as found so far.
    """

    start: Path
    unreadable: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[Level]:
        real = self.start.resolve()
        seen = {_identity(place) for place in real.parents}
        folders, links = [""], list[str]()
        while folders or links:
            if not folders:  # links that are nearer to the start come first
                links.sort(key=lambda name: (name.count(os.sep), name))
            name = folders.pop() if folders else links.pop(0)
            try:
                identity = _identity(self.start / name)
                if identity in seen:
                    continue
                seen.add(identity)
                entries = sorted(os.scandir(self.start / name), key=lambda entry: entry.name)
            except OSError as error:
                self._note(name, reason_of(error))
                continue
            level, linked = self._look(name, entries, seen)
            folders += [os.path.join(name, each) for each in level.folders if each not in linked]
            links += [os.path.join(name, each) for each in linked]
            yield level

    def refuse_unreadable(self) -> None:
        """Raises `UserError` if entries could not be read: without them, it is another data set."""
        if not self.unreadable:
            return
        n = len(self.unreadable)
        more = f" and {n - _NAMED} more" if n > _NAMED else ""
        raise UserError(
            f"{n} {'entry' if n == 1 else 'entries'} of folder '{self.start}' cannot be read: "
            f"{', '.join(self.unreadable[:_NAMED])}{more}; make them readable, or move them away"
        )

    def _look(
        self, name: str, entries: list[os.DirEntry[str]], seen: set[tuple[int, int]]
    ) -> tuple[Level, set[str]]:
        """Returns a folder's content, and which of its folders are links."""
        level, linked = Level(name, [], []), set[str]()
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                if entry.is_dir():
                    if entry.is_symlink():
                        if _identity(Path(entry.path)) in seen:
                            continue
                        linked.add(entry.name)
                    level.folders.append(entry.name)
                elif stat.S_ISREG(entry.stat().st_mode) if entry.is_symlink() else entry.is_file():
                    level.files.append(entry.name)
                elif is_image(entry.name):
                    self._note(os.path.join(name, entry.name), "not a file")
            except OSError as error:
                if is_image(entry.name):
                    level.files.append(entry.name)  # it is named and counted when it is read
                else:
                    self._note(os.path.join(name, entry.name), reason_of(error))
        return level, linked

    def _note(self, name: str, reason: str) -> None:
        if os.path.basename(name) != _OF_THE_SYSTEM:
            self.unreadable.append(f"'{name or self.start}' ({reason})")


def subfolders(folder: Path) -> list[str]:
    """Returns the names of the folders in a folder, and of the links to folders, sorted.

    Raises:
        UserError: the folder or an entry cannot be read.
    """
    walk = Walk(folder)
    first = next(iter(walk), None)
    walk.refuse_unreadable()
    assert first is not None
    return first.folders


def _identity(place: Path) -> tuple[int, int]:
    found = place.stat()
    return found.st_dev, found.st_ino
