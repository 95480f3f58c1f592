"""Results as tables for a terminal."""

from typing import Any

from rich.console import Console, Group
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from ssl_zoo.evaluation.differences import columns

HEADINGS = {
    "knn/top1@k=20": "kNN@20",
    "knn/top1@k=200": "kNN@200",
    "clustering/nmi": "NMI",
    "clustering/ari": "ARI",
    "clustering/accuracy": "cluster acc.",
}
"""Scores that a leaderboard shows beside its headline, where they were measured, as far as there is
room; the JSON holds all."""

SPREAD = "_std"
"""End of the name of a score's standard deviation over seeds of its evaluator."""


def scores_table(result: dict[str, Any]) -> Group:
    """Returns the scores of one evaluation."""
    data = result["data"]
    title = Text(
        f"{result['checkpoint']} on {data['settings']['name']} "
        f"({data['n_train']} train, {data['n_test']} test, {result['image_size']} px)"
    )
    table = _table("evaluator", "score", "value", "95 % interval or spread", right=("value",))
    protocols = []
    for name, found in result["evaluators"].items():
        for score, value, uncertainty in score_rows(found):
            table.add_row(name, score, value, uncertainty)
        protocols.append(f"{name} {found['protocol'].get('name', '')} {found['protocol_digest']}")
    return Group(title, table, Text(f"protocols: {', '.join(protocols)}"))


def results_table(results: list[dict[str, Any]], differences: list[dict[str, Any]]) -> Group:
    """Returns results side by side, a row for each score of one protocol on the same data, and
    what tests of pairs say."""
    names = [result["checkpoint"] for result in results]
    table = _table("score", *names, "protocol", right=tuple(names))
    for (score, key), values in columns(results).items():
        if score.endswith(SPREAD):
            continue
        cells = ["" if value is None else f"{value:.2f}" for value in values]
        table.add_row(score, *cells, key.split()[0])
    data = results[0]["data"]
    title = Text(f"{data['settings']['name']} ({data['n_train']} train, {data['n_test']} test)")
    return Group(title, table, *(Text(difference_line(one)) for one in differences))


def difference_line(found: dict[str, Any]) -> str:
    """Returns what a test of two checkpoints says, in a line."""
    low, high = found["interval"]
    verdict = "" if found["distinguishable"] else ": not distinguishable"
    test = ""
    if found["p"] is not None:
        p = "< 0.0001" if found["p"] < 1e-4 else f"= {found['p']:.4f}"
        alone = f"{found['only_ours']} images right in the first alone, {found['only_theirs']} in the second"
        test = f"; McNemar p {p} ({alone})"
    return (
        f"{found['ours']} over {found['theirs']}, {found['score']}: {found['difference']:+.2f} "
        f"[{low:+.2f}, {high:+.2f}]{test}{verdict}"
    )


def result_line(result: dict[str, Any]) -> str:
    """Returns the headlines of a result in a line."""
    found = [
        f"{name}/{one['headline']} {one['scores'][one['headline']]:.2f}"
        for name, one in result["evaluators"].items()
    ]
    return f"step {result['step']}: {', '.join(found)}"


def score_rows(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Returns name, value and uncertainty of each score that an evaluator found."""
    rows, scores = [], found["scores"]
    for score, value in scores.items():
        if score.endswith(SPREAD) and score.removesuffix(SPREAD) in scores:
            continue
        pair, spread = found["intervals"].get(score), scores.get(score + SPREAD)
        uncertainty = f"{pair[0]:.2f} to {pair[1]:.2f}" if pair else ""
        if spread is not None:
            uncertainty = f"±{spread:.2f} over seeds"
        rows.append((score, f"{value:.2f}", uncertainty))
    return rows


def leaderboard(comparison: dict[str, Any], *, width: int) -> Group:
    """Returns the rows of a comparison, best first, baselines last, with as many scores as fit."""
    headline = comparison["headline"]
    measured = comparison["rows"][0]["scores"]
    scores = [headline, *(name for name in HEADINGS if name in measured and name != headline)]
    table = _leaderboard(comparison, scores)
    while len(scores) > 1 and _natural_width(table) > width:
        scores.pop()
        table = _leaderboard(comparison, scores)
    seeds = comparison["seeds"]
    uncertainty = (
        f"mean ± standard deviation of {seeds} seeds"
        if seeds > 1
        else "one seed, 95 % interval over test images"
    )
    protocols = ", ".join(f"{name} {digest}" for name, digest in comparison["protocols"].items())
    title = f"{comparison['backbone']} on {comparison['data']}, {uncertainty}"
    return Group(Text(title), table, Text(f"protocols: {protocols}"))


def _leaderboard(comparison: dict[str, Any], scores: list[str]) -> Table:
    sizes = ["epochs", "views", "seconds", "params"]
    headings = [HEADINGS.get(name, name) for name in scores]
    table = _table("method", *headings, *sizes, right=(*headings, *sizes))
    for row in comparison["rows"]:
        cells = [_cell(row["scores"][name], with_interval=name == scores[0]) for name in scores]
        trained = ["-"] * 3
        if row["epochs"]:
            seconds = f"{row['training_seconds']:.0f}"
            trained = [str(row["epochs"]), count_text(row["views_seen"]), seconds]
        table.add_row(row["name"], *cells, *trained, count_text(row["parameters"]))
    return table


def _natural_width(table: Table) -> int:
    console = Console(width=1000)
    return Measurement.get(console, console.options, table).maximum


def count_text(count: int) -> str:
    """Returns a count in three digits: `5.63 M`."""
    for limit, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if count >= limit:
            return f"{count / limit:.3g}{unit}"
    return str(count)


def _table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left")
    return table


def _cell(score: dict[str, Any], *, with_interval: bool = False) -> str:
    if score["std"] is not None:
        return f"{score['mean']:.1f} ±{score['std']:.1f}"
    if with_interval and score["interval"]:
        low, high = score["interval"]
        return f"{score['mean']:.1f} [{low:.1f}, {high:.1f}]"
    return f"{score['mean']:.1f}"
