"""`ssl-zoo compare` and `ssl-zoo card`."""

import json
from pathlib import Path
from typing import Any

import click

from ssl_zoo.cli import completion
from ssl_zoo.cli.options import EVALUATORS


@click.command("compare")
@click.argument(
    "methods",
    nargs=-1,
    required=True,
    metavar="METHOD[@RECIPE]...",
    shell_complete=completion.methods,
)
@click.option(
    "--recipe",
    default="digits",
    show_default=True,
    metavar="NAME",
    help="Recipe of methods without one.",
)
@click.option(
    "--seeds", default=1, show_default=True, type=click.IntRange(1, 100), help="Runs each."
)
@EVALUATORS
@click.option(
    "--output",
    "-o",
    default="runs/compare",
    show_default=True,
    metavar="DIR",
    help="Folder of the runs and of comparison.json.",
)
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Setting for all runs."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def compare_command(
    methods: tuple[str, ...],
    recipe: str,
    seeds: int,
    evaluators: list[Any],
    output: str,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Trains methods side by side and ranks them.

    An untrained network and raw pixels stand beside them. Runs that are complete are not trained
    again.

    \b
    ssl-zoo compare swav simclr
    ssl-zoo compare swav simclr --seeds 3 --set epochs=20
    """
    from ssl_zoo.cli.console import show, width
    from ssl_zoo.comparison.compare import compare
    from ssl_zoo.report.tables import leaderboard

    result = compare(
        list(methods),
        recipe=recipe,
        seeds=seeds,
        evaluators=evaluators,
        output=output,
        overrides=overrides,
    )
    if as_json:
        click.echo(json.dumps(result, indent=1))
    else:
        show(leaderboard(result, width=width()))


@click.command("card")
@click.argument("run")
@click.option(
    "--output",
    "-o",
    default="model_cards",
    show_default=True,
    metavar="DIR",
    help="Folder of the cards.",
)
@click.option("--name", help="Name of the card; by default METHOD_BACKBONE_DATA_EPOCHSep.")
def card_command(run: str, output: str, name: str | None) -> None:
    """Writes the model card of a finished RUN, with its weights.

    Scores are measured while writing.
    """
    from ssl_zoo.report.card import write_card

    click.echo(write_card(run, Path(output), name=name))
