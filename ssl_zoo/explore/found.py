"""Images that were found by their features, as a table with their paths and as a contact sheet."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_zoo.data.base import DATASETS, Dataset
from ssl_zoo.errors import UserError
from ssl_zoo.explore.embedded import Embedded
from ssl_zoo.explore.feature_files import FeatureTable
from ssl_zoo.explore.sheets import save_sheet
from ssl_zoo.explore.similarity import Listed
from ssl_zoo.files import write_text
from ssl_zoo.plain_text import csv_cell

SUFFIXES = (".csv", ".json")
DIGITS = 6
"""Digits of similarities and distances."""


@dataclass(frozen=True)
class FoundImages:
    """Rows of a table of features that were found, each with its numbers.

    Attributes:
        source: the table.
        index: rows in it, `(n,)`.
        numbers: columns before those of the images, `(n,)` each.
    """

    source: FeatureTable
    index: NDArray[np.int64]
    numbers: dict[str, list[Any]]

    def records(self) -> list[dict[str, Any]]:
        """Returns one mapping per image: numbers, then position, path, label and split."""
        columns = {**self.numbers}
        for name, column in self.source.columns.items():
            columns[name] = [column[place] for place in self.index.tolist()]
        return [
            dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
        ]

    def csv_text(self) -> str:
        """Returns the records as CSV."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*self.numbers, *self.source.columns])
        for record in self.records():
            writer.writerow(map(csv_cell, record.values()))
        return file.getvalue()

    def save(self, path: Path) -> None:
        """Writes the records as CSV, or as JSON with what the features are.

        Raises:
            UserError: the file cannot be written.
        """
        facts = self.source.facts.model_dump(mode="json")
        as_json = {"features": facts, "images": self.records()}
        text = self.csv_text() if path.suffix == ".csv" else json.dumps(as_json, indent=1) + "\n"
        try:
            write_text(path, text)
        except OSError as error:
            raise UserError(f"'{path}' cannot be written: {error.strerror or error}") from None

    def save_sheet(self, path: Path, *, most: int, before: Sequence[int] = ()) -> None:
        """Writes the first images as thumbnails, in order.

        Args:
            most: number of images at most.
            before: rows of images to show before these.

        Raises:
            UserError: the data set is no longer there, or has other images.
        """
        index = np.concatenate([np.array(before, dtype=np.int64), self.index[:most]])
        try:
            save_sheet(path, self._pixels(index), n_images=len(index))
        except OSError as error:
            raise UserError(f"'{path}' cannot be written: {error.strerror or error}") from None

    def _pixels(self, index: NDArray[np.int64]) -> Iterator[Tensor | None]:
        data = _splits(self.source.facts)
        columns = self.source.columns
        for place in index.tolist():
            split = columns["split"][place] if "split" in columns else next(iter(data))
            position = int(columns["index"][place])
            if position >= len(data[split]):
                raise UserError("the data set has fewer images than features; embed it again")
            yield data[split].load(torch.tensor([position]))[0]


def _splits(facts: Embedded) -> dict[str, Dataset]:
    """Returns the data of a file of features, by split."""
    settings = DATASETS.config(facts.data)
    return {
        each.split: DATASETS.build(settings, split="test" if each.split == "test" else "train")
        for each in facts.splits
    }


def of_ranking(source: FeatureTable, found: Listed, *, name: str, most: int | None) -> FoundImages:
    """Returns ranked images, at most `most`.

    Args:
        name: name of their numbers.
    """
    index, values = found.index[:most], found.values[:most]
    numbers: dict[str, list[Any]] = {
        "rank": list(range(1, len(index) + 1)),
        name: _rounded(values),
    }
    return FoundImages(source, index, numbers)


def of_groups(source: FeatureTable, groups: list[Listed]) -> FoundImages:
    """Returns the images of groups, with the numbers of the groups and their similarities."""
    empty = [np.empty(0, dtype=np.int64)]
    index = np.concatenate([group.index for group in groups] or empty)
    numbers = [place for place, group in enumerate(groups, 1) for _ in group.index]
    similarities = [value for group in groups for value in _rounded(group.values)]
    return FoundImages(source, index, {"group": numbers, "similarity": similarities})


def _rounded(values: Iterable[Any]) -> list[float]:
    return [round(float(value), DIGITS) for value in values]


def place_of(source: FeatureTable, image: str) -> int:
    """Returns the row of an image by its path, or by its position if it has none.

    Raises:
        UserError: there is no such image.
    """
    paths = source.columns.get("path")
    if paths is not None and image in paths:
        return list(paths).index(image)
    positions = [str(position) for position in source.columns["index"]]
    if positions.count(image) == 1:
        return positions.index(image)
    rule = (
        "give its path as in the column 'path'"
        if paths is not None
        else "give its position 'index'"
    )
    several = " is in several splits, or" if image in positions else ""
    raise UserError(f"'{image}'{several} has no feature in the file; {rule}")
