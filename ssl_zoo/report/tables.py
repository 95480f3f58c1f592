"""Results as terminal tables."""

from collections.abc import Sequence

from rich.console import Console, Group
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from ssl_zoo.comparison.ranking import Comparison, Row, ScoreSummary, seeds_text
from ssl_zoo.evaluation.differences import Difference
from ssl_zoo.evaluation.result import SPREAD, Result
from ssl_zoo.report.score_table import ScoreTable, TableRow, selection_notes
from ssl_zoo.report.short_names import LEAST, short_names

HEADINGS = {
    "knn/top1@k=20": "kNN@20",
    "knn/top1@k=200": "kNN@200",
    "clustering/nmi": "NMI",
    "clustering/ari": "ARI",
    "clustering/accuracy": "cluster acc.",
}
"""Scores shown next to the headline of a leaderboard, if measured and if there is room; the JSON has
all."""


GAP = 2
"""Spaces between columns."""
_PAIRS = 6
"""Tests of pairs below a leaderboard at most; more are those of the best contender."""
_MORE_COSTS = ("FLOPs", "GB", "GPU GB", "images")
"""Costs that are shown if there is room after all scores, the most telling first."""
VALUE = 10
"""Width of a value with two decimals, including spaces."""


def scores_table(result: Result) -> Group:
    """Returns a table of the scores of one evaluation."""
    table = _table("evaluator", "score", "value", "95 % interval or spread", right=("value",))
    for row in result.rows():
        table.add_row(row.evaluator, row.score, f"{row.value:.2f}", row.uncertainty)
    protocols = [
        f"{name} {found.protocol.get('name', '')} {found.protocol_digest}"
        for name, found in result.evaluators.items()
    ]
    return Group(Text(result.title), table, Text(f"protocols: {', '.join(protocols)}"))


def results_table(found: ScoreTable, *, width: int) -> Group:
    """Returns a table of results side by side, with one row per score, protocol and data, and the tests
    of pairs; results that do not fit side by side are listed one below the other."""
    rows = [row for row in found.rows() if not row.score.endswith(SPREAD)]
    fixed = _table("score", "protocol")
    for row in rows:
        fixed.add_row(row.score, row.protocol)
    room = (width - _natural_width(fixed)) // max(len(found.names), 1) - GAP
    if room < LEAST:
        table = _one_below_the_other(found, rows, width - _natural_width(fixed) - VALUE)
    else:
        names = short_names(found.names, room)
        table = _table("score", *names, "protocol", right=tuple(names))
        for row in rows:
            cells = ["" if value is None else f"{value:.2f}" for value in row.values]
            table.add_row(row.score, *cells, row.protocol)
    return Group(
        Text(found.title),
        table,
        *(Text(difference_line(one)) for one in found.differences),
        *map(Text, found.notes),
    )


def _one_below_the_other(found: ScoreTable, rows: list[TableRow], room: int) -> Table:
    names = short_names(found.names, room)
    table = _table("score", "checkpoint", "value", "protocol", right=("value",))
    for row in rows:
        for name, value in zip(names, row.values, strict=True):
            if value is not None:
                table.add_row(row.score, name, f"{value:.2f}", row.protocol)
    return table


def difference_line(found: Difference) -> str:
    """Returns the outcome of a test of two checkpoints in one line."""
    low, high = found.interval
    verdict = "" if found.distinguishable else ": not distinguishable"
    test = ""
    if found.p is not None and found.only_ours is None:
        test = f"; {p_text(found)}"
    elif found.p is not None:
        alone = f"{found.only_ours} images correct only in the first, {found.only_theirs} only in the second"
        test = f"; McNemar {p_text(found)} ({alone})"
    return (
        f"{found.ours} over {found.theirs}, {found.score}: {found.difference:+.2f} "
        f"[{low:+.2f}, {high:+.2f}]{test}{verdict}"
    )


def p_text(found: Difference) -> str:
    """Returns the p-value of a test, and what is left of it after correction for several."""

    def shown(p: float) -> str:
        return "p < 0.0001" if p < 1e-4 else f"p = {p:.4f}"

    corrected = f", corrected {shown(found.p_corrected)}" if found.p_corrected is not None else ""
    return "" if found.p is None else shown(found.p) + corrected


def result_line(result: Result) -> str:
    """Returns the headlines of a result in one line."""
    found = [f"{name}/{one.headline} {one.value:.2f}" for name, one in result.evaluators.items()]
    return f"step {result.step}: {', '.join(found)}"


def leaderboard(comparison: Comparison, *, width: int) -> Group:
    """Returns a table of a comparison, best first, baselines last, with as many scores as fit.

    Names are shortened if even the headline alone does not leave enough room.
    """
    headline, measured = comparison.headline, comparison.rows[0].scores
    names = [row.name for row in comparison.rows]
    bare = _natural_width(_leaderboard(comparison, [headline], [""] * len(names)))
    names = short_names(names, width - bare + len("method"))
    scores = [headline, *(name for name in HEADINGS if name in measured and name != headline)]
    more = [one for one in _MORE_COSTS if any(cost_cells(row)[one] for row in comparison.rows)]
    table = _leaderboard(comparison, scores, names, more)
    while _natural_width(table) > width and (more or len(scores) > 1):
        (more if more else scores).pop()
        table = _leaderboard(comparison, scores, names, more)
    protocols = ", ".join(f"{name} {digest}" for name, digest in comparison.protocols.items())
    seeds = seeds_text(comparison.seeds)
    title = f"{comparison.backbone} on {comparison.data}, {seeds}{comparison.caution}"
    not_ranked = [comparison.why_not_ranked] if comparison.why_not_ranked else []
    notes = map(Text, [*not_ranked, *selection_notes(comparison)])
    tests = map(Text, _verdict_lines(comparison))
    return Group(Text(title), table, Text(f"protocols: {protocols}"), *tests, *notes)


def _verdict_lines(comparison: Comparison) -> list[str]:
    """Returns the tests of pairs; those of the best contender if there are many."""
    found = comparison.differences
    told = [one for one in found if len(found) <= _PAIRS or one.ours == comparison.rows[0].name]
    lines = [difference_line(one) for one in told]
    if len(told) < len(found):
        lines.append(
            f"{len(found) - len(told)} more pairs are in comparison.json and in its report"
        )
    return lines


def _leaderboard(
    comparison: Comparison, scores: list[str], names: list[str], more: Sequence[str] = ()
) -> Table:
    sizes = ["epochs", "views", "seconds", *more]
    headings = [HEADINGS.get(name, name) for name in scores]
    ranks = [_rank(row) for row in comparison.rows]
    first = ["rank"] if any(ranks) else []
    right = (*headings, *sizes, "params")
    table = _table("method", *first, *headings, *sizes, "params", right=right)
    for name, row, rank in zip(names, comparison.rows, ranks, strict=True):
        cells = [_cell(row.scores[one], with_interval=one == scores[0]) for one in scores]
        costs = [cost_cells(row)[one] or "-" for one in sizes]
        where = [rank] if first else []
        table.add_row(name, *where, *cells, *costs, count_text(row.parameters))
    return table


def _rank(row: Row) -> str:
    """Returns the place of a contender and, if others are possible, the interval: `1 [1, 3]`."""
    if row.rank is None:
        return ""
    low, high = row.rank_interval or (row.rank, row.rank)
    return f"{row.rank} [{low}, {high}]" if low < high else str(row.rank)


def cost_cells(row: Row) -> dict[str, str]:
    """Returns what the training of a contender took, by heading; empty for what is not known."""
    if not row.epochs:
        return dict.fromkeys(("epochs", "images", "views", "seconds", *_MORE_COSTS), "")
    return {
        "epochs": str(row.epochs),
        "images": count_text(row.images_seen) if row.images_seen else "",
        "views": count_text(row.views_seen),
        "seconds": f"{row.training_seconds:.0f}",
        "FLOPs": count_text(row.flops) if row.flops else "",
        "GB": f"{row.host_gb:.2f}" if row.host_gb else "",
        "GPU GB": f"{row.device_gb:.2f}" if row.device_gb else "",
    }


def _natural_width(table: Table) -> int:
    console = Console(width=1000)
    return Measurement.get(console, console.options, table).maximum


def count_text(count: int) -> str:
    """Returns a count with three digits: `5.63 M`."""
    for limit, unit in ((1e15, " P"), (1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if count >= limit:
            return f"{count / limit:.3g}{unit}"
    return str(count)


def _table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left")
    return table


def _cell(score: ScoreSummary, *, with_interval: bool = False) -> str:
    if score.std is not None:
        return f"{score.mean:.1f} ±{score.std:.1f}"
    if with_interval and score.interval:
        low, high = score.interval
        return f"{score.mean:.1f} [{low:.1f}, {high:.1f}]"
    return f"{score.mean:.1f}"
