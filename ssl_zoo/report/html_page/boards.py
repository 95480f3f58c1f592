"""Leaderboards: scores with intervals as bars, protocols and costs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ssl_zoo.comparison.ranking import Comparison, Row, seeds_text
from ssl_zoo.evaluation.result import EvaluatorResult, Result
from ssl_zoo.plain_text import printable
from ssl_zoo.report.html_page.sources import ShownRun, Sources
from ssl_zoo.report.tables import HEADINGS

_MARGIN = 0.06
"""Room on both sides of the bars, as a share of their range."""


@dataclass(frozen=True)
class BoardCell:
    """A cell: what is shown, and the number that it is sorted by; None sorts last."""

    text: str
    value: float | None


@dataclass(frozen=True)
class Bar:
    """A score on the scale of its board, in percent of the width."""

    at: float
    left: float | None = None
    width: float = 0.0


@dataclass(frozen=True)
class BoardRow:
    """A contender or checkpoint.

    Attributes:
        name: its name on the page.
        score: the headline.
        uncertainty: interval or spread, as text; empty without.
        bar: the headline and its interval as a drawing.
        cells: one for each column of the board.
        is_trained: False for baselines.
    """

    name: str
    score: BoardCell
    uncertainty: str
    bar: Bar
    cells: tuple[BoardCell, ...]
    is_trained: bool = True


@dataclass(frozen=True)
class Board:
    """Scores under one protocol on the same images, best first.

    Attributes:
        title: the network and the data.
        note: what the intervals are, and what to be careful about.
        score: the headline.
        heading: its short name.
        protocol: digest of the headline's protocol.
        scale: the smallest and the largest score that the bars can show.
        columns: further columns.
        rows: the rows, best first.
    """

    title: str
    note: str
    score: str
    heading: str
    protocol: str
    scale: tuple[float, float]
    columns: tuple[str, ...]
    rows: tuple[BoardRow, ...]


@dataclass(frozen=True)
class _Entry:
    """A row before it is drawn."""

    name: str
    value: float
    low: float | None
    high: float | None
    uncertainty: str
    cells: dict[str, BoardCell]
    is_trained: bool = True


def boards(sources: Sources) -> list[Board]:
    """Returns a board for each comparison, and for results of the same data, score and protocol."""
    trained = {run.name: run for run in sources.runs}
    found = [_of_comparison(one) for one in sources.comparisons]
    return [*found, *_of_results(sources.results, trained)]


def _of_comparison(comparison: Comparison) -> Board:
    headline = comparison.headline
    scores = [name for name in comparison.rows[0].scores if name in HEADINGS and name != headline]
    entries = [_contender(row, headline, scores) for row in comparison.rows]
    n_test = f", {comparison.n_test:,} test images" if comparison.n_test else ""
    return _board(
        entries,
        title=f"{comparison.backbone} on {comparison.data}{n_test}",
        note=f"{seeds_text(comparison.seeds)}{comparison.caution}",
        score=headline,
        protocol=comparison.protocols.get(headline.partition("/")[0], ""),
        is_ranked=comparison.ranked,
    )


def _contender(row: Row, headline: str, scores: Sequence[str]) -> _Entry:
    found = row.scores[headline]
    low, high = found.interval or (None, None)
    uncertainty = "" if low is None else f"{low:.2f} to {high:.2f}"
    if found.std is not None:
        low, high = found.mean - found.std, found.mean + found.std
        uncertainty = f"±{found.std:.2f}"
    cells = {
        HEADINGS[name]: number(row.scores[name].mean, ".2f")
        for name in scores
        if name in row.scores
    }
    if row.rank is not None:
        ends = f" ({row.rank_interval[0]} to {row.rank_interval[1]})" if row.rank_interval else ""
        cells = {"rank": BoardCell(f"{row.rank}{ends}", row.rank), **cells}
    cells |= {
        "epochs": number(row.epochs),
        "training": _duration(row.training_seconds if row.epochs else None),
        "images seen": _large(row.images_seen),
        "views seen": _large(row.views_seen),
        "FLOPs": _large(row.flops),
        "memory, GB": number(row.host_gb, ".2f"),
        "GPU memory, GB": number(row.device_gb, ".2f"),
        "parameters": _large(row.parameters),
    }
    name, is_trained = printable(row.name), row.epochs > 0
    return _Entry(name, found.mean, low, high, uncertainty, cells, is_trained)


def _of_results(
    results: Iterable[tuple[str, Result]], trained: dict[str, ShownRun]
) -> Iterable[Board]:
    groups: dict[tuple[str, ...], list[tuple[str, Result]]] = {}
    for name, one in results:
        label, first = next(iter(one.evaluators.items()))
        prints = one.data.fingerprint
        key = (label, first.headline, first.protocol_digest, prints.train, prints.test)
        groups.setdefault(key, []).append((name, one))
    for (label, headline, protocol, *_), members in groups.items():
        data = members[0][1].data
        cautions = dict.fromkeys(one.data.caution for _, one in members)
        yield _board(
            [_checkpoint(name, one, label, trained.get(name)) for name, one in members],
            title=f"{data.name}, {data.n_train:,} train and {data.n_test:,} test images",
            note=f"95 % interval over test images{''.join(cautions)}",
            score=f"{label}/{headline}",
            protocol=protocol,
            is_ranked=True,
        )


def _checkpoint(name: str, result: Result, label: str, run: ShownRun | None) -> _Entry:
    found: EvaluatorResult = result.evaluators[label]
    low, high = found.intervals.get(found.headline, (None, None))
    cells = {}
    for score, heading in HEADINGS.items():
        evaluator, _, own = score.partition("/")
        measured = result.evaluators.get(evaluator)
        if (evaluator, own) != (label, found.headline) and measured and own in measured.scores:
            cells[heading] = number(measured.scores[own], ".2f")
    cells |= {
        "epochs": number(None if result.epoch is None else round(result.epoch)),
        "training": _duration(run.seconds if run else None),
        "parameters": _large(result.backbone.parameters),
        "multiply-adds": _large(result.backbone.multiply_adds),
        "scoring": _duration(result.seconds.total),
    }
    uncertainty = "" if low is None else f"{low:.2f} to {high:.2f}"
    return _Entry(name, found.value, low, high, uncertainty, cells)


def _board(
    entries: list[_Entry], *, title: str, note: str, score: str, protocol: str, is_ranked: bool
) -> Board:
    if is_ranked:
        entries = sorted(entries, key=lambda one: -one.value)
    columns = list(dict.fromkeys(name for one in entries for name in one.cells))
    columns = [
        name
        for name in columns
        if any(one.cells[name].value is not None for one in entries if name in one.cells)
    ]
    ends = [end for one in entries for end in (one.value, one.low, one.high) if end is not None]
    room = _MARGIN * (max(ends) - min(ends)) or 1.0
    scale = (min(ends) - room, max(ends) + room)
    rows = [
        BoardRow(
            name=one.name,
            score=number(one.value, ".2f"),
            uncertainty=one.uncertainty,
            bar=_bar(one, scale),
            cells=tuple(one.cells.get(name, number(None)) for name in columns),
            is_trained=one.is_trained,
        )
        for one in entries
    ]
    return Board(
        title=printable(title),
        note=note,
        score=score,
        heading=HEADINGS.get(score, score),
        protocol=protocol,
        scale=scale,
        columns=tuple(columns),
        rows=tuple(rows),
    )


def _bar(one: _Entry, scale: tuple[float, float]) -> Bar:
    def place(value: float) -> float:
        return round(100 * (value - scale[0]) / (scale[1] - scale[0]), 2)

    if one.low is None or one.high is None:
        return Bar(place(one.value))
    return Bar(place(one.value), place(one.low), round(place(one.high) - place(one.low), 2))


def number(value: float | None, form: str = ",") -> BoardCell:
    """Returns a cell for a number; empty for None."""
    return BoardCell("" if value is None else format(value, form), value)


def _large(value: int | None) -> BoardCell:
    if not value:
        return BoardCell("", None)
    for unit, size in (("P", 10**15), ("T", 10**12), ("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if value >= size:
            return BoardCell(f"{value / size:.3g} {unit}", value)
    return BoardCell(str(value), value)


def _duration(seconds: float | None) -> BoardCell:
    if seconds is None:
        return BoardCell("", None)
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size:
            return BoardCell(f"{seconds / size:.1f} {unit}", seconds)
    return BoardCell(f"{seconds:.1f} s", seconds)
