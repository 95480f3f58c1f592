"""Results as tables for a terminal."""

from typing import Any

from rich.table import Table

HEADLINES = (
    "knn/top1@k=20",
    "knn/top1@k=200",
    "clustering/nmi",
    "clustering/ari",
    "clustering/accuracy",
)
"""Scores that a leaderboard shows, where they were measured; the JSON holds all."""


def scores_table(result: dict[str, Any]) -> Table:
    """Returns the scores of one evaluation."""
    data = result["data"]
    table = Table(
        title=f"{result['checkpoint']} on {data['settings']['name']} "
        f"({data['n_train']} train, {data['n_test']} test, {result['image_size']} px)",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    for column in ("evaluator", "score", "value", "95 % interval", "protocol"):
        table.add_column(column, justify="right" if column in ("value",) else "left")
    for name, found in result["evaluators"].items():
        for score, value in found["scores"].items():
            pair = found["intervals"].get(score)
            interval = f"{pair[0]:.2f} .. {pair[1]:.2f}" if pair else ""
            protocol = f"{found['protocol'].get('protocol', name)} {found['protocol_digest']}"
            table.add_row(name, score, f"{value:.2f}", interval, protocol)
    return table


def leaderboard(comparison: dict[str, Any]) -> Table:
    """Returns the rows of a comparison, best first, baselines last."""
    rows = comparison["rows"]
    shown = [name for name in HEADLINES if name in rows[0]["scores"]]
    shown = shown or list(rows[0]["scores"])[:5]
    seeds = comparison["seeds"]
    spread = (
        f"mean and standard deviation of {seeds} seeds" if seeds > 1 else "one seed: no spread"
    )
    table = Table(
        title=f"{comparison['backbone']} on {comparison['data']}, {spread}",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    table.add_column("method")
    for name in (*shown, "epochs", "views seen", "seconds", "parameters"):
        table.add_column(name.replace("clustering/", "").replace("knn/", "kNN "), justify="right")
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
    table.caption = f"protocols: {protocols}"
    table.caption_justify = "left"
    return table


def _cell(score: dict[str, Any]) -> str:
    if score["std"] is None:
        return f"{score['mean']:.1f}"
    return f"{score['mean']:.1f} ±{score['std']:.1f}"
