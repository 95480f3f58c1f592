"""Files of features: Parquet, NumPy's .npz, or CSV, written and read a block at a time.

Parquet has a row group per block, and what the features are in its metadata, under `ssl_zoo`. `.npz` has
one array per column, and a text `ssl_zoo`. CSV has a column per dimension, and a file `NAME.csv.json`
beside it.
"""

import csv
import importlib
import importlib.util
import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_zoo.errors import UserError
from ssl_zoo.explore.embedded import Embedded
from ssl_zoo.files import write_text
from ssl_zoo.plain_text import csv_cell

SUFFIXES = (".parquet", ".npz", ".csv")
FEATURES = "features"
"""Name of the column of features."""
KEY = "ssl_zoo"
"""Where a file says what its features are."""
INDEX = "index"
BLOCK_BYTES = 1 << 25
"""Bytes of features in memory at once."""
MOST_ROWS = 8192
"""Most rows in memory at once."""


@dataclass(frozen=True)
class RowBlock:
    """Consecutive rows of a table of features.

    Attributes:
        index: position of each image in its data set, `(B,)`.
        texts: other columns by name.
        features: returns `(B, D)` or `(B, T, D)` float32; it reads them.
    """

    index: NDArray[np.int64]
    texts: dict[str, list[str]]
    features: Callable[[], NDArray[np.float32]]


Blocks = Callable[[], Iterator[RowBlock]]
"""Starts another pass over all rows."""


def rows_at_once(shape: tuple[int, ...]) -> int:
    """Returns the number of rows of a block."""
    return max(1, min(MOST_ROWS, BLOCK_BYTES // (4 * int(np.prod(shape)))))


def check_suffix(path: Path, *, patches: bool) -> None:
    """Refuses a file early that cannot be written.

    Raises:
        UserError: the format is unknown, needs a package that is missing, or cannot hold patches.
    """
    if path.suffix not in SUFFIXES:
        raise UserError(
            f"the format of '{path}' is unknown; use a name that ends in {', '.join(SUFFIXES[:-1])} "
            f"or {SUFFIXES[-1]}"
        )
    if path.suffix == ".csv" and patches:
        raise UserError(
            "a .csv file has one feature per image and cannot hold those of patches; use .parquet or .npz"
        )
    if path.suffix == ".parquet":
        _arrow()


def write_features(path: Path, facts: Embedded, blocks: Blocks) -> None:
    """Writes features in the format of the file's suffix; memory does not grow with their number.

    Raises:
        OSError: the file cannot be written.
    """
    writers = {".parquet": _write_parquet, ".npz": _write_npz, ".csv": _write_csv}
    writers[path.suffix](path, facts, blocks)


def facts_beside(path: Path) -> Path:
    """Returns the file that says what the features in a CSV are."""
    return path.with_name(f"{path.name}.json")


def _write_parquet(path: Path, facts: Embedded, blocks: Blocks) -> None:
    arrow, parquet = _arrow()
    kind: Any = arrow.float32()
    for length in reversed(facts.shape):
        kind = arrow.list_(kind, length)
    texts = [(name, arrow.string()) for name in facts.columns if name != INDEX]
    schema = arrow.schema(
        [(INDEX, arrow.int64()), *texts, (FEATURES, kind)],
        metadata={KEY: json.dumps(facts.model_dump(mode="json"))},
    )
    repeated = [name for name in facts.columns if name in ("label", "split")]
    with parquet.ParquetWriter(path, schema, use_dictionary=repeated) as writer:
        for block in blocks():
            values: Any = arrow.array(block.features().ravel())
            for length in reversed(facts.shape):
                values = arrow.FixedSizeListArray.from_arrays(values, length)
            columns = [arrow.array(block.index), *map(arrow.array, block.texts.values()), values]
            writer.write_table(arrow.Table.from_arrays(columns, schema=schema))


def _write_npz(path: Path, facts: Embedded, blocks: Blocks) -> None:
    n = facts.n_images
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:

        def put(name: str, kind: Any, shape: Sequence[int], parts: Iterator[Any]) -> None:
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                described = {
                    "descr": np.dtype(kind).str,
                    "fortran_order": False,
                    "shape": (*shape,),
                }
                np.lib.format.write_array_header_2_0(entry, described)
                for part in parts:
                    entry.write(np.ascontiguousarray(part, dtype=kind).tobytes())

        put(INDEX, "<i8", (n,), (block.index for block in blocks()))
        for name in facts.columns:
            if name != INDEX:
                longest = max(len(text) for block in blocks() for text in block.texts[name])
                kind = f"<U{max(1, longest)}"
                put(name, kind, (n,), (np.array(block.texts[name]) for block in blocks()))
        put(FEATURES, "<f4", (n, *facts.shape), (block.features() for block in blocks()))
        told = np.array(json.dumps(facts.model_dump(mode="json")))
        put(KEY, told.dtype, (), iter([told]))


def _write_csv(path: Path, facts: Embedded, blocks: Blocks) -> None:
    write_text(facts_beside(path), facts.json_text() + "\n")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*facts.columns, *(f"f{place}" for place in range(facts.dim))])
        for block in blocks():
            texts = [map(csv_cell, column) for column in block.texts.values()]
            for number, *names, row in zip(
                block.index.tolist(), *texts, block.features(), strict=True
            ):
                writer.writerow([number, *names, *map(str, row)])  # shortest that is read exactly


def read_facts(path: str | Path) -> Embedded:
    """Returns what a file of features says about them.

    Raises:
        UserError: it is something else, or cannot be read.
    """
    file = Path(path)
    strange = UserError(f"'{path}' has no features of {Embedded.WRITTEN_BY}")
    if file.suffix == ".csv":
        return Embedded.load(facts_beside(file))
    try:
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as found:
                text = str(found[KEY])
        elif file.suffix == ".parquet":
            text = _arrow()[1].read_schema(file).metadata[KEY.encode()].decode()
        else:
            raise strange
        return Embedded.parse(json.loads(text), source=str(path))
    except OSError as error:
        if error.errno:
            raise UserError(f"'{path}' cannot be read ({error.strerror})") from None
        raise strange from None
    except (KeyError, ValueError, TypeError, EOFError, RecursionError, zipfile.BadZipFile):
        raise strange from None


@dataclass(frozen=True)
class FeatureTable:
    """The contents of a file of features.

    Attributes:
        facts: what the features are.
        columns: `index`, and `path`, `label` and `split` if known, `(N,)` each.
        values: features `(N, D)` float32.
    """

    facts: Embedded
    columns: dict[str, Sequence[Any]]
    values: NDArray[np.float32]


def read_features(path: str | Path) -> FeatureTable:
    """Reads a file of `ssl-zoo embed` into memory.

    Raises:
        UserError: it is something else, cannot be read, or has the features of patches.
    """
    file, facts = Path(path), read_facts(path)
    if facts.n_patches is not None:
        raise UserError(
            f"'{path}' has the features of patches; write one per image: ssl-zoo embed without --patches"
        )
    readers = {".parquet": _read_parquet, ".npz": _read_npz, ".csv": _read_csv}
    try:
        columns, values = readers[file.suffix](file, facts)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        raise UserError(f"'{path}' is damaged; write it again: {Embedded.WRITTEN_BY}") from None
    if len(values) != facts.n_images:
        raise UserError(f"'{path}' is not complete; write it again: {Embedded.WRITTEN_BY}")
    return FeatureTable(facts, columns, values)


_Contents = tuple[dict[str, Sequence[Any]], NDArray[np.float32]]


def _read_parquet(path: Path, facts: Embedded) -> _Contents:
    table = _arrow()[1].read_table(path)
    values = table[FEATURES].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    columns = {name: table[name].to_pylist() for name in facts.columns}
    return columns, values.reshape(-1, facts.dim)


def _read_npz(path: Path, facts: Embedded) -> _Contents:
    with np.load(path, allow_pickle=False) as found:
        return {name: found[name].tolist() for name in facts.columns}, found[FEATURES]


def _read_csv(path: Path, facts: Embedded) -> _Contents:
    n = len(facts.columns)
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        next(rows)
        texts, numbers = [], []
        for row in rows:
            texts.append(row[:n])
            numbers.append(np.array(row[n:], dtype=np.float32))
    columns: dict[str, Sequence[Any]] = dict(
        zip(facts.columns, map(list, zip(*texts, strict=True)), strict=True)
    )
    columns[INDEX] = [int(position) for position in columns[INDEX]]
    return columns, np.stack(numbers)


def _arrow() -> tuple[Any, Any]:
    """Returns pyarrow and its module for Parquet.

    Raises:
        UserError: it is not installed.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise UserError(
            "Parquet needs pyarrow, which is not installed; pip install 'ssl-zoo[parquet]', or use .npz or "
            ".csv"
        )
    return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
