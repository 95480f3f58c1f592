"""Image files that are listed in a table, with labels, groups and splits in its columns."""

import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from ssl_zoo.data.base import DATASETS, Split
from ssl_zoo.data.columns import table_columns
from ssl_zoo.data.held_out import HeldOutConfig, held_out
from ssl_zoo.data.image_files import FilesConfig, ImageFiles, PathList
from ssl_zoo.errors import UserError

_NAMED = 3  # files named in a message


@DATASETS.register
class Table(ImageFiles):
    """Image files listed in a CSV, TSV or Parquet file.

    An empty label means that the image has none: it is used in training and left out of scores.
    """

    class Config(HeldOutConfig, FilesConfig):
        """Settings of a table of image files."""

        name: Literal["table"] = "table"
        """Registered name."""
        file: str
        """The table: .csv, .tsv or .parquet; its first line names the columns."""
        root: str | None = None
        """Folder that paths are relative to; by default the folder of the table."""
        path: str = "path"
        """Column of the image files."""
        label: str | list[str] | None = None
        """Column of the class; or a list of columns of 0 and 1, for images with several classes."""
        separator: str | None = Field(default=None, min_length=1)
        """Text between the classes of an image in a single column, such as `;`."""
        group: str | None = None
        """Column of what must not be in both splits, such as the patient; used with a share of `test`."""
        split: str | None = None
        """Column of the split."""
        train: str = "train"
        """Value of the training images in the split column."""
        test: str = "20%"
        """Value of the test images in the split column; without one, the share of images that is held
        out, or `train` for the training images themselves."""

        @model_validator(mode="after")
        def _check(self) -> "Table.Config":
            if self.split is None and self.share is None and self.test != "train":
                raise ValueError(
                    f"test is '{self.test}', but there is no split column; set split=COLUMN, or a share "
                    "to hold out, such as test=20%"
                )
            if self.split is None and self.train != "train":
                raise ValueError(
                    f"train is '{self.train}', but there is no split column; set split"
                )
            if self.group is not None and self.share is None:
                raise ValueError("groups are used to hold out a share; set test=20%")
            return self

    def __init__(self, config: Config, *, split: Split) -> None:
        self.config = config
        self.max_corrupt = config.max_corrupt
        file = Path(config.file).expanduser()
        labels = [config.label] if isinstance(config.label, str) else config.label or []
        wanted = [config.path, *labels, *filter(None, (config.group, config.split))]
        columns = table_columns(file, wanted)
        names = columns[config.path]
        rows = self._rows(columns, split)
        self.class_names, found = self._labels(columns, labels)
        self.labels: Tensor | None = None if found is None else torch.from_numpy(found[rows])
        root = file.parent if config.root is None else Path(config.root).expanduser()
        self._paths = PathList(root, [names[row] for row in rows])
        self._check_files(file)

    def _rows(self, columns: dict[str, list[str]], split: Split) -> NDArray[np.int64]:
        """Returns the rows of a split."""
        config = self.config
        n_rows = len(columns[config.path])
        chosen = np.ones(n_rows, dtype=bool)
        if config.split is not None:
            value = config.train if split == "train" or config.share else config.test
            values = columns[config.split]
            chosen = np.array([each == value for each in values], dtype=bool)
            if not chosen.any():
                known = ", ".join(sorted(set(values))[:10])
                raise UserError(
                    f"table '{config.file}' has no row with '{value}' in column '{config.split}'; set "
                    f"data.{split}; values: {known or 'none'}"
                )
        elif n_rows == 0:
            raise UserError(f"table '{config.file}' lists no images")
        rows = np.flatnonzero(chosen)
        if config.share is None:
            return rows
        label = columns[config.label] if isinstance(config.label, str) else None
        out = held_out(
            [os.fsencode(columns[config.path][row]) for row in rows],
            config.share,
            seed=config.split_seed,
            labels=None if label is None else np.unique(label, return_inverse=True)[1][rows],
            groups=None if config.group is None else [columns[config.group][row] for row in rows],
        )
        return rows[out if split == "test" else ~out]

    def _labels(
        self, columns: dict[str, list[str]], labels: list[str]
    ) -> tuple[list[str], NDArray[np.int64] | None]:
        """Returns class names, and labels `(N,)` or `(N, C)` of all rows."""
        if not labels:
            return [], None
        if isinstance(self.config.label, list):
            marks = [_marks(columns[name], name, self.config.file) for name in labels]
            return labels, np.stack(marks, axis=1)
        values = columns[labels[0]]
        separator = self.config.separator
        if separator is not None:
            several = [{one.strip() for one in each.split(separator)} - {""} for each in values]
            classes = sorted(set().union(*several))
            places = {name: place for place, name in enumerate(classes)}
            found = np.zeros((len(values), len(classes)), dtype=np.int64)
            for row, each in enumerate(several):
                found[row, [places[name] for name in each]] = 1
            return classes, found
        classes = sorted(set(values) - {""})
        if not classes:
            raise UserError(
                f"column '{labels[0]}' of table '{self.config.file}' is empty; leave out data.label"
            )
        places = {name: place for place, name in enumerate(classes)} | {"": -1}
        return classes, np.array([places[each] for each in values], dtype=np.int64)

    def _check_files(self, file: Path) -> None:
        """Refuses a table that lists files that do not exist."""
        empty = [row for row in range(len(self)) if not self._paths.name(row)]
        if empty:
            raise UserError(
                f"table '{file}' has {len(empty)} rows without a path in column '{self.config.path}'"
            )
        missing = [path for path in self._paths[:] if not path.is_file()]
        if missing:
            more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
            raise UserError(
                f"table '{file}' lists {len(missing)} of {len(self)} files that do not exist: "
                f"{', '.join(map(str, missing[:_NAMED]))}{more}; remove these rows, or set data.root to the "
                "folder of the images"
            )


def _marks(values: list[str], column: str, file: Any) -> NDArray[np.int64]:
    known = {"1": 1, "0": 0, "1.0": 1, "0.0": 0, "true": 1, "false": 0, "": 0}
    try:
        return np.array([known[each.lower()] for each in values], dtype=np.int64)
    except KeyError as error:
        raise UserError(
            f"column '{column}' of table '{file}' contains {error.args[0]!r}; with several columns each "
            "holds 0 or 1; for one column of class names write data.label=NAME"
        ) from None
