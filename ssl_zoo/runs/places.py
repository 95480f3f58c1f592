"""Locations of run folders, and of outputs: never over a file that is not a result of their kind, nor into
a run."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ssl_zoo.errors import UserError

if TYPE_CHECKING:
    from ssl_zoo.runs.config import RunConfig


Read = Callable[[Path], object]
"""Reads a file of a kind, and raises `UserError` if it is of another kind."""
LOCK = ".lock"
"""File in a run folder that is locked by the process that trains there."""
SUBMITTING = ".submitting"
"""File in a run folder that is locked by a process that submits it."""


def default_folder(config: "RunConfig") -> Path:
    """Returns `runs/METHOD-DATA-DIGEST`, which is equal for equal configs and different for others."""
    name = f"{config.method.name}-{config.data.name}-{config.digest()}"
    return runs_folder() / name


def runs_folder() -> Path:
    """Returns the default folder of runs: `runs`, or the value of SSL_ZOO_RUNS."""
    return Path(os.environ.get("SSL_ZOO_RUNS", "runs"))


def point_folder(parent: Path, config: "RunConfig") -> Path:
    """Returns the folder of one of several runs that differ in method and seed."""
    return parent / f"{config.method.name}-seed{config.seed}-{config.digest()}"


def run_around(path: Path) -> Path | None:
    """Returns the run folder that a path is in, or is; None outside runs."""
    place = path.resolve()
    for folder in (place, *place.parents):
        begun = ("history.jsonl", "owner.json", "complete.json")
        if (folder / "config.yaml").is_file() and any((folder / name).exists() for name in begun):
            return folder
    return None


def check_encoding(output: Path) -> None:
    """Checks that an output has a name that all libraries can write and read.

    Raises:
        UserError: its path is not UTF-8.
    """
    try:
        str(output).encode()
    except UnicodeEncodeError:
        raise UserError(f"'{output}' is not UTF-8; choose another --output") from None


def check_place(output: Path) -> None:
    """Checks that an output other than a run can be written to a path.

    Raises:
        UserError: its path is not UTF-8, or it is in a run folder, which only training changes.
    """
    check_encoding(output)
    run = run_around(output)
    if run is not None:
        raise UserError(
            f"'{output}' is in the run folder '{run}', which only training changes; choose another "
            "--output"
        )


def output_file(path: str, *, replaces: Read | None = None, in_run: str | None = None) -> Path:
    """Checks an output file and creates its folder, before any work is done.

    Args:
        replaces: reads an existing file that may be replaced; if None, no file is.
        in_run: name of the file that may be in a run folder.

    Raises:
        UserError: the file cannot be written, or contains something else.
    """
    file = Path(path)
    if file.name == in_run:
        check_encoding(file)
    else:
        check_place(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"'{path}' cannot be written: {error.strerror}") from None
    is_other = file.exists() and not file.is_file()  # a folder or a device
    if is_other or not os.access(file.parent, os.W_OK):
        raise UserError(f"'{path}' cannot be written; choose another --output")
    if file.is_file() and file.stat().st_size and not _is(file, replaces):
        raise UserError(
            f"'{path}' exists and is not known to be a result of this command; choose another "
            "--output, or remove it"
        )
    return file


def output_folder(path: str, *, replaces: Read) -> Path:
    """Checks an output folder before any work is done.

    Args:
        replaces: reads an existing folder that may be written to, if it is not empty.

    Raises:
        UserError: it is a file, or contains something else.
    """
    folder = Path(path)
    check_place(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"'{path}' is a file, not a folder; choose another --output")
    if folder.is_dir() and any(folder.iterdir()) and not _is(folder, replaces):
        raise UserError(f"folder '{path}' contains other files; choose another --output")
    return folder


def _is(path: Path, read: Read | None) -> bool:
    if read is None:
        return False
    try:
        read(path)
    except UserError:
        return False
    return True
