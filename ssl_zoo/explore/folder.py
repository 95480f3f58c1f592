"""Output folders of clusters and classifiers: written completely or not at all, never over other files."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ssl_zoo.errors import UserError
from ssl_zoo.files import locked
from ssl_zoo.runs.places import check_place

RESULT = "clusters.json"
"""Files that every folder of clusters contains."""
CENTROIDS = "centroids.safetensors"
PAGE = "index.html"
SHEETS = "sheets"
ASSIGNMENTS = "assignments"
"""Name of the table, without its extension."""
OWN = {RESULT, CENTROIDS, PAGE, SHEETS, f"{ASSIGNMENTS}.csv", f"{ASSIGNMENTS}.parquet"}


@dataclass(frozen=True)
class FolderKind:
    """What an output folder contains.

    Attributes:
        name: in the plural, for messages.
        result: a file that every such folder contains.
        own: names of all its files and folders.
    """

    name: str
    result: str
    own: frozenset[str]


CLUSTERS = FolderKind("clusters", RESULT, frozenset(OWN))


def check_output(path: Path, *, overwrite: bool, kind: FolderKind = CLUSTERS) -> None:
    """Refuses a folder that must not be overwritten, before any work is done.

    Raises:
        UserError: it is a file, contains such a result and `overwrite` is not set, contains anything
            else, or is in a run folder.
    """
    check_place(path)
    if Path.cwd().is_relative_to(path.resolve()):
        raise UserError(
            f"'{path}' is the current folder and would be replaced; choose another --output"
        )
    if not path.exists():
        _check_parent(path)
        return
    if not path.is_dir():
        raise UserError(f"'{path}' is a file; choose a folder for --output")
    names = {entry.name for entry in path.iterdir()}
    strange = sorted(names - kind.own)
    if strange or (names and kind.result not in names):
        what = (strange or sorted(names))[0]
        raise UserError(
            f"'{path}' contains '{what}', which is not part of {kind.name}; choose another --output"
        )
    if names and not overwrite:
        raise UserError(
            f"'{path}' already contains {kind.name}; choose another --output, or replace them with "
            "--overwrite"
        )
    _check_parent(path)


def _check_parent(path: Path) -> None:
    parent = path.absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(
            f"'{path}' cannot be written ({reason}); choose another --output"
        ) from None
    if not os.access(parent, os.W_OK):
        raise UserError(f"'{path}' cannot be written; choose another --output")


@contextmanager
def writing_alone(path: Path, *, overwrite: bool, kind: FolderKind = CLUSTERS) -> Iterator[None]:
    """Checks an output folder and keeps it from other processes within a `with` block.

    Raises:
        UserError: another process is writing there; or see `check_output`.
    """
    check_output(path, overwrite=overwrite, kind=kind)
    target = path.resolve()
    lock = target.with_name(f".{target.name}.lock")
    with locked(lock) as is_ours:
        if not is_ours:
            raise UserError(
                f"another process is writing {kind.name} to '{path}'; choose another --output"
            )
        check_output(
            path, overwrite=overwrite, kind=kind
        )  # the other process may have finished just now
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


@contextmanager
def written_whole(path: Path, *, overwrite: bool, kind: FolderKind = CLUSTERS) -> Iterator[Path]:
    """Yields a folder to write to, which becomes `path` when the block ends.

    If the block fails, `path` is unchanged.

    Args:
        overwrite: whether to replace an existing result.

    Raises:
        UserError: a file cannot be written.
    """
    target = path.resolve()  # the target of a link, so that the link stays
    aside = target.with_name(f".{target.name}.writing-{uuid.uuid4().hex[:8]}")
    try:
        aside.mkdir(parents=True)
        yield aside
        _replace(aside, target, overwrite=overwrite)
    except OSError as error:
        reason = error.strerror.lower() if error.strerror else str(error)
        raise UserError(
            f"{kind.name} cannot be written to '{path}' ({reason}); make room or choose another "
            "--output"
        ) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _replace(aside: Path, target: Path, *, overwrite: bool) -> None:
    if not overwrite or not target.exists():
        aside.rename(target)  # fails if there is something in a folder of this name
        return
    old = aside.with_name(f"{aside.name}.old")
    target.rename(old)
    try:
        aside.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)
