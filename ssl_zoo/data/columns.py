"""Columns of text from CSV and Parquet files."""

import csv
import importlib
import importlib.util
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ssl_zoo.config import closest
from ssl_zoo.errors import UserError

EXTENSIONS = (".csv", ".tsv", ".parquet")
"""Extensions of tables, in lower case."""
USUAL_NAMES = {
    "path": (
        "path",
        "file",
        "filename",
        "file_name",
        "filepath",
        "file_path",
        "image",
        "image_path",
    ),
    "label": ("label", "class", "category", "target", "species"),
    "group": ("group", "patient", "patient_id", "subject", "subject_id", "video", "site"),
    "split": ("split", "subset", "partition"),
}
"""Common names of the columns, in lower case."""


def is_table(name: str) -> bool:
    """Returns whether a file name is that of a table."""
    return name.lower().endswith(EXTENSIONS)


def header(file: Path) -> list[str]:
    """Returns the names of the columns of a table.

    Raises:
        UserError: the file cannot be read or has no columns.
    """
    if file.suffix.lower() == ".parquet":
        names: list[str] = _parquet(file).schema_arrow.names
        return names
    rows = _rows(file)
    names = next(iter(rows), [])
    if not any(names):
        raise UserError(f"table '{file}' is empty; its first line should name the columns")
    return names


def usual(names: Iterable[str], what: str) -> str | None:
    """Returns the column that usually holds the `path`, `label`, `group` or `split` of an image."""
    found = {name.strip().lower(): name for name in names}
    return next((found[known] for known in USUAL_NAMES[what] if known in found), None)


def table_columns(file: Path, wanted: Iterable[str]) -> dict[str, list[str]]:
    """Returns columns of a table as text without surrounding spaces; empty text for missing values.

    Raises:
        UserError: the file cannot be read, a column is missing, or a line is too short or too long.
    """
    names = header(file)
    wanted = list(dict.fromkeys(wanted))
    for name in wanted:
        if name not in names:
            raise UserError(
                f"table '{file}' has no column '{name}'.{closest(name, names)} "
                f"Columns: {', '.join(names)}"
            )
        if names.count(name) > 1:
            raise UserError(f"table '{file}' has column '{name}' twice; rename one")
    if file.suffix.lower() == ".parquet":
        table = _parquet(file).read(columns=wanted)
        return {name: [_text(one) for one in table.column(name).to_pylist()] for name in wanted}
    places = [names.index(name) for name in wanted]
    columns: dict[str, list[str]] = {name: [] for name in wanted}
    for number, row in enumerate(_rows(file)):
        if number == 0 or not row:
            continue
        if len(row) != len(names):
            raise UserError(
                f"row {number} of table '{file}' has {len(row)} values, but there are {len(names)} "
                "columns; put text with commas in quotes"
            )
        for name, place in zip(wanted, places, strict=True):
            columns[name].append(row[place].strip())
    return columns


def _rows(file: Path) -> Iterable[list[str]]:
    """Yields the rows of a CSV file, the header first."""
    delimiter = "\t" if file.suffix.lower() == ".tsv" else ","
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            yield from csv.reader(text, delimiter=delimiter, strict=True)
    except FileNotFoundError:
        raise UserError(f"table '{file}' does not exist") from None
    except UnicodeDecodeError:
        raise UserError(f"table '{file}' is not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise UserError(f"table '{file}' cannot be read: {reason}") from None
    except csv.Error as error:
        raise UserError(f"table '{file}' is not valid CSV: {error}") from None


def _parquet(file: Path) -> Any:
    if importlib.util.find_spec("pyarrow") is None:
        raise UserError(
            f"table '{file}' needs pyarrow, which is not installed; pip install pyarrow, or use CSV"
        )
    if not file.is_file():
        raise UserError(f"table '{file}' does not exist")
    try:
        return importlib.import_module("pyarrow.parquet").ParquetFile(file)
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        line = str(error).splitlines()[0]
        raise UserError(f"table '{file}' is not a Parquet file: {line}") from None


def _text(value: object) -> str:
    if value is None or value != value:  # NaN, as pandas writes missing text
        return ""
    return str(value).strip()
