"""Results as tables for a terminal."""

from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

HEADLINES = (
    "knn/top1@k=20",
    "knn/top1@k=200",
    "clustering/nmi",
    "clustering/ari",
    "clustering/accuracy",
)
"""Scores that a leaderboard shows, where they were measured; the JSON holds all."""

SPREAD = "_std"
"""End of the name of a score's standard deviation over starts of its evaluator."""


def scores_table(result: dict[str, Any]) -> Group:
    """Returns the scores of one evaluation."""
    data = result["data"]
    title = Text(
        f"{result['checkpoint']} on {data['settings']['name']} "
        f"({data['n_train']} train, {data['n_test']} test, {result['image_size']} px)"
    )
    table = _table("evaluator", "score", "value", "95 % interval", "protocol", right=("value",))
    for name, found in result["evaluators"].items():
        protocol = f"{found['protocol'].get('name', name)} {found['protocol_digest']}"
        for score, value, uncertainty in score_rows(found):
            table.add_row(name, score, value, uncertainty, protocol)
    return Group(title, table)


def score_rows(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Returns name, value and uncertainty of each score that an evaluator found."""
    rows, scores = [], found["scores"]
    for score, value in scores.items():
        if score.endswith(SPREAD) and score.removesuffix(SPREAD) in scores:
            continue
        pair, spread = found["intervals"].get(score), scores.get(score + SPREAD)
        uncertainty = f"{pair[0]:.2f} to {pair[1]:.2f}" if pair else ""
        if spread is not None:
            uncertainty = f"±{spread:.2f} over starts"
        rows.append((score, f"{value:.2f}", uncertainty))
    return rows


def leaderboard(comparison: dict[str, Any]) -> Group:
    """Returns the rows of a comparison, best first, baselines last."""
    rows = comparison["rows"]
    shown = [name for name in HEADLINES if name in rows[0]["scores"]]
    shown = shown or list(rows[0]["scores"])[:5]
    seeds = comparison["seeds"]
    spread = (
        f"mean and standard deviation of {seeds} seeds" if seeds > 1 else "one seed: no spread"
    )
    title = Text(f"{comparison['backbone']} on {comparison['data']}, {spread}")
    scores = [name.replace("clustering/", "").replace("knn/", "kNN ") for name in shown]
    sizes = ["epochs", "views seen", "seconds", "parameters"]
    table = _table("method", *scores, *sizes, right=(*scores, *sizes))
    for row in rows:
        cells = [_cell(row["scores"][name]) for name in shown]
        trained = [str(row["epochs"]), f"{row['views_seen']:,}", f"{row['training_seconds']:.0f}"]
        table.add_row(
            row["name"],
            *cells,
            *(trained if row["epochs"] else ["-"] * 3),
            f"{row['parameters']:,}",
        )
    protocols = ", ".join(f"{name} {digest}" for name, digest in comparison["protocols"].items())
    return Group(title, table, Text(f"protocols: {protocols}"))


def _table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left")
    return table


def _cell(score: dict[str, Any]) -> str:
    if score["std"] is None:
        return f"{score['mean']:.1f}"
    return f"{score['mean']:.1f} ±{score['std']:.1f}"
