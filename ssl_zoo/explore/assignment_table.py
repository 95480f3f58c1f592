"""The table of assignments, as CSV or Parquet."""

import csv
import importlib
import importlib.util
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ssl_zoo.data.base import Dataset
from ssl_zoo.errors import UserError
from ssl_zoo.explore.folder import ASSIGNMENTS
from ssl_zoo.explore.groups import Groups, label_name
from ssl_zoo.plain_text import csv_cell

Format = Literal["csv", "parquet"]


def check_format(kind: Format) -> None:
    """Refuses Parquet early if pyarrow is missing.

    Raises:
        UserError: pyarrow is not installed.
    """
    if kind == "parquet" and importlib.util.find_spec("pyarrow") is None:
        raise UserError(
            "--table parquet needs pyarrow, which is not installed; pip install pyarrow, or use "
            "--table csv"
        )


def write_table(
    folder: Path,
    kind: Format,
    *,
    groups: Groups,
    dataset: Dataset,
    index: NDArray[np.int64],
    labels: NDArray[np.int64] | None,
) -> Path:
    """Writes one row per image: `index`, `image`, `cluster`, `similarity` and, if there are labels,
    `label`.

    Args:
        groups: the clusters.
        dataset: where the images come from.
        index: position of each image in the data set, `(N,)`.
        labels: class of each image, `(N,)`; negative for images without one.
    """
    columns: dict[str, list[Any]] = {
        "index": index.tolist(),
        "image": [dataset.describe(place) for place in index.tolist()],
        "cluster": groups.clusters.tolist(),
        "similarity": groups.cosines.tolist(),
    }
    if labels is not None:
        names = dataset.class_names
        columns["label"] = [label_name(label, names) for label in labels.tolist()]
    path = folder / f"{ASSIGNMENTS}.{kind}"
    if kind == "csv":
        _write_csv(path, columns)
    else:
        _write_parquet(path, columns)
    return path


def _write_csv(path: Path, columns: dict[str, list[Any]]) -> None:
    texts = {**columns, "similarity": [f"{value:.6f}" for value in columns["similarity"]]}
    # File names are bytes: names that are not UTF-8 are written unchanged.
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(texts)
        for row in zip(*texts.values(), strict=True):
            writer.writerow(map(csv_cell, row))


def _write_parquet(path: Path, columns: dict[str, list[Any]]) -> None:
    arrow = importlib.import_module("pyarrow")
    names = [name.encode(errors="backslashreplace").decode() for name in columns["image"]]
    table = arrow.table({**columns, "image": names})
    importlib.import_module("pyarrow.parquet").write_table(table, path)
