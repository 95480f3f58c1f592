"""`table(...)`: a table of the scores of several results or comparisons."""

import csv
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from ssl_zoo.comparison.ranking import COMPARISON_FILE, Comparison
from ssl_zoo.errors import UserError
from ssl_zoo.evaluation.differences import Difference, differences, try_differences
from ssl_zoo.evaluation.records import data_frame, html_table, read_json
from ssl_zoo.evaluation.result import Fingerprint, Result, read_results
from ssl_zoo.files import write_text
from ssl_zoo.plain_text import csv_cell


@dataclass(frozen=True)
class Cell:
    """A score of one checkpoint or contender.

    Attributes:
        name: the checkpoint or contender.
        score: evaluator and name of the score, such as `knn/top1@k=20`.
        value: the score; for a contender, the mean over its seeds.
        low: lower end of the 95 % interval; None without one.
        high: upper end of the 95 % interval; None without one.
        spread: standard deviation over seeds of the evaluator or the contender; None without one.
        protocol: digest of protocol and view.
        data: name and, if known, fingerprints of the data set.
        seconds: training time of a contender, mean over its seeds; None if not known, as all that follow.
        images: images of all steps of a run.
        views: views of all steps of a run.
        flops: floating-point operations of all steps of a run, forwards and backwards.
        host_gb: largest memory of the process in training, in GB.
        device_gb: largest memory of the GPU, in GB.
    """

    name: str
    score: str
    value: float
    low: float | None
    high: float | None
    spread: float | None
    protocol: str
    data: str
    seconds: float | None = None
    images: int | None = None
    views: int | None = None
    flops: int | None = None
    host_gb: float | None = None
    device_gb: float | None = None


_N_EARLIER = 8
"""Columns of tables that were written before costs were in them."""


@dataclass(frozen=True)
class TableRow:
    """A row: a score under one protocol on the same data.

    Attributes:
        score: evaluator and name of the score.
        protocol: digest of protocol and view.
        values: score of each checkpoint or contender; None if not measured.
    """

    score: str
    protocol: str
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class ScoreTable:
    """Scores side by side; scores under different protocols or on different data are in different rows.

    Attributes:
        title: description of checkpoints and data.
        names: names of the checkpoints or contenders, in order.
        cells: all scores.
        differences: tests of the best checkpoint against each other one.
        why_not: why there are no such tests; empty if there are, or for a single checkpoint.
        notes: what to know of single checkpoints, one line each.
    """

    title: str
    names: tuple[str, ...]
    cells: tuple[Cell, ...]
    differences: tuple[Difference, ...] = ()
    why_not: str = ""
    notes: tuple[str, ...] = ()

    def rows(self) -> list[TableRow]:
        """Returns one row per score, protocol and data."""
        found: dict[tuple[str, str, str], list[float | None]] = {}
        for cell in self.cells:
            key = (cell.score, cell.protocol, cell.data)
            values = found.setdefault(key, [None] * len(self.names))
            values[self.names.index(cell.name)] = cell.value
        return [TableRow(key[0], key[1], tuple(values)) for key, values in found.items()]

    def lines(self) -> list[dict[str, Any]]:
        """Returns one mapping per score of each checkpoint, for files and other libraries."""
        return [asdict(cell) for cell in self.cells]

    def to_csv(self, path: str | Path | None = None) -> str:
        """Returns CSV text with one line per score of each checkpoint, and writes it to a file if
        given."""
        text = StringIO()
        writer = csv.DictWriter(text, list(Cell.__dataclass_fields__), lineterminator="\n")
        writer.writeheader()
        for line in self.lines():
            writer.writerow({key: csv_cell(value) for key, value in line.items()})
        if path is not None:
            write_text(Path(path), text.getvalue())
        return text.getvalue()

    def to_pandas(self) -> Any:
        """Returns a `pandas.DataFrame` with one row per score of each checkpoint.

        Raises:
            UserError: pandas is not installed.
        """
        return data_frame(self.lines())

    def _repr_html_(self) -> str:
        return html_table(
            self.title,
            [
                {
                    "score": row.score,
                    **dict(zip(self.names, row.values, strict=True)),
                    "protocol": row.protocol,
                }
                for row in self.rows()
            ],
        )


def table(*what: Result | Comparison | str | Path, score: str | None = None) -> ScoreTable:
    """Puts scores side by side, and tests the best checkpoint against the others.

    Args:
        what: results, comparisons, their files, run folders with a result, or folders of a comparison.
        score: score to test, such as `knn/top1@k=20`; the first headline if None.

    Raises:
        UserError: a file is missing or damaged, or `score` cannot be tested.
    """
    sources = [one for each in what for one in read_scored(each)]
    results = [one for one in sources if isinstance(one, Result)]
    only_results = len(results) == len(sources)
    found, why_not = try_differences(results) if only_results else ([], "")
    if score is not None and not results:
        raise UserError(f"'{score}' cannot be tested: no results of single checkpoints are given")
    if score is not None:
        found, why_not = differences(results, score=score), ""
    named = _named(sources)
    why_not = why_not or _why_apart(named)
    return ScoreTable(
        title=_title(sources),
        names=tuple(dict.fromkeys(cell.name for cell in named)),
        cells=tuple(named),
        differences=tuple(found),
        why_not=why_not,
        notes=tuple(line for one in sources for line in selection_notes(one)),
    )


def selection_notes(source: Result | Comparison) -> list[str]:
    """Returns a line for each checkpoint that was selected by a score during training."""
    if isinstance(source, Result):
        selected = {source.checkpoint: source.selected_by}
    else:
        selected = {row.name: row.selected_by for row in source.rows}
    return [
        f"{name}: selected by {score} during training; if that was measured on these test images, its "
        "scores are too high"
        for name, score in selected.items()
        if score is not None
    ]


def read_scored(what: Result | Comparison | str | Path) -> list[Result | Comparison]:
    """Returns the results or the comparison in a file or folder; objects are returned unchanged.

    Raises:
        UserError: there is no result, or it is damaged.
    """
    if isinstance(what, Result | Comparison):
        return [what]
    path = Path(what)
    if (path / COMPARISON_FILE).is_file():
        return [Comparison.load(path)]
    if path.is_file():
        found = read_json(path, written_by=Result.WRITTEN_BY)
        if isinstance(found, dict) and "rows" in found:
            return [Comparison.parse(found, source=str(path))]
    return list(read_results(path))


def read_columns(file: Path) -> list[str]:
    """Returns the columns of a file that was written by `ScoreTable.to_csv`.

    Raises:
        UserError: it is another file.
    """
    columns = list(Cell.__dataclass_fields__)
    with file.open("rb") as opened:
        first = opened.readline(1000).strip()
    if first not in (",".join(columns).encode(), ",".join(columns[:_N_EARLIER]).encode()):
        raise UserError(f"'{file}' is not a table of scores")
    return columns


def _why_apart(cells: list[Cell]) -> str:
    """Returns why scores are not in one row, if they are not of the same data."""
    first = cells[0]
    for cell in cells:
        if cell.data != first.data:
            return (
                f"'{cell.name}' was scored on data '{cell.data}', '{first.name}' on '{first.data}': their "
                "scores are in rows of their own"
            )
    return ""


def _title(sources: list[Result | Comparison]) -> str:
    first = sources[0]
    if isinstance(first, Comparison):
        return f"{first.backbone} on {first.data}{first.caution}"
    cautions = dict.fromkeys(one.data.caution for one in sources if isinstance(one, Result))
    return f"{first.data.name} ({first.data.n_train} train, {first.data.n_test} test){''.join(cautions)}"


def _named(sources: list[Result | Comparison]) -> list[Cell]:
    """Returns all cells; repeated names get a number."""
    taken: set[str] = set()
    cells = []
    for source in sources:
        renamed: dict[str, str] = {}
        for cell in _cells(source):
            if cell.name not in renamed:
                renamed[cell.name] = _free(cell.name, taken)
                taken.add(renamed[cell.name])
            cells.append(Cell(**{**asdict(cell), "name": renamed[cell.name]}))
    return cells


def _free(name: str, taken: set[str]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name} ({number})"
    return free


def _cells(source: Result | Comparison) -> Iterator[Cell]:
    if isinstance(source, Comparison):
        yield from _of_comparison(source)
        return
    data = _data_text(source.data.name, source.data.fingerprint)
    for row in source.rows():
        yield Cell(
            name=source.checkpoint,
            score=f"{row.evaluator}/{row.score}",
            value=row.value,
            low=row.low,
            high=row.high,
            spread=row.spread,
            protocol=row.protocol,
            data=data,
        )


def _data_text(name: str, fingerprint: Fingerprint | None) -> str:
    return f"{name} {fingerprint.train} {fingerprint.test}" if fingerprint else name


def _of_comparison(comparison: Comparison) -> Iterator[Cell]:
    data = _data_text(comparison.data, comparison.fingerprint)
    for row in comparison.rows:
        for name, score in row.scores.items():
            low, high = score.interval or (None, None)
            yield Cell(
                name=row.name,
                score=name,
                value=score.mean,
                low=low,
                high=high,
                spread=score.std,
                protocol=row.protocols[name.partition("/")[0]],
                data=data,
                seconds=row.training_seconds or None,
                images=row.images_seen or None,
                views=row.views_seen or None,
                flops=row.flops,
                host_gb=row.host_gb,
                device_gb=row.device_gb,
            )
