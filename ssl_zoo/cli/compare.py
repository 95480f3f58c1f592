"""`ssl-zoo compare` and `ssl-zoo card`."""

from pathlib import Path
from typing import Any

import click

from ssl_zoo.cli import completion
from ssl_zoo.cli.options import EVALUATORS, is_override


@click.command("compare")
@click.argument(
    "contenders",
    nargs=-1,
    required=True,
    metavar="[METHOD|FILE|RUN]... [[METHOD:]KEY=VALUE]...",
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
    "--evaluation",
    "file",
    metavar="FILE",
    help="YAML file of how runs are scored.",
)
@click.option(
    "--output",
    "-o",
    default="runs/compare",
    show_default=True,
    metavar="DIR",
    help="Folder of the runs and of comparison.json.",
)
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="The same as KEY=VALUE."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def compare_command(
    contenders: tuple[str, ...],
    recipe: str,
    seeds: int,
    evaluators: list[Any] | None,
    file: str | None,
    output: str,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Trains methods side by side and ranks them.

    An untrained network and raw pixels stand beside them. Runs that are complete are not trained
    again. FILE is the YAML file of a run, and RUN the folder of one that is trained already; the
    folder of a comparison, given alone, is shown. KEY=VALUE is a setting of all runs, and
    METHOD:KEY=VALUE one of those of a single method.

    \b
    ssl-zoo compare swav simclr
    ssl-zoo compare swav simclr --seeds 3 epochs=20
    ssl-zoo compare swav simclr epochs=20 swav:method.n_prototypes=[50]
    ssl-zoo compare runs/mine swav@digits other.yaml
    """
    from ssl_zoo.cli.console import show, width
    from ssl_zoo.comparison.compare import compare
    from ssl_zoo.comparison.contenders import is_for_one
    from ssl_zoo.evaluation.config import EvaluationConfig, read_request
    from ssl_zoo.report.tables import leaderboard

    settings = [each for each in contenders if is_override(each) or is_for_one(each)]
    config = read_request(EvaluationConfig, file=file, fields={"evaluators": evaluators})
    result = compare(
        [each for each in contenders if each not in settings],
        config,
        recipe=recipe,
        seeds=seeds,
        output=output,
        overrides=[*overrides, *settings],
    )
    if as_json:
        click.echo(result.json_text())
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
