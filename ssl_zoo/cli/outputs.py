"""Where commands write: never over a file that is not a result of their kind, nor into a run."""

import os
from collections.abc import Callable
from pathlib import Path

from ssl_zoo.errors import UserError
from ssl_zoo.runs.places import check_encoding, check_place

Read = Callable[[Path], object]
"""Reads a file of a kind, and raises `UserError` if it is of another kind."""


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


def read_scores(file: Path) -> object:
    """Reads results of `ssl-zoo evaluate`, one or several."""
    from ssl_zoo.evaluation.result import read_results

    return read_results(file)


def read_table(file: Path) -> object:
    """Reads a table of `ssl-zoo table`, by the name's suffix."""
    from ssl_zoo.report.score_table import read_columns, read_scored

    return read_columns(file) if file.suffix == ".csv" else read_scored(file)


def read_weights(file: Path) -> object:
    """Reads the metadata of exported weights."""
    from ssl_zoo.weights.open import file_facts

    return file_facts(file)


def read_hub(folder: Path) -> object:
    """Reads the metadata of the weights in an exported torch.hub entry."""
    from ssl_zoo.weights.export import WEIGHTS

    return read_weights(folder / WEIGHTS)
