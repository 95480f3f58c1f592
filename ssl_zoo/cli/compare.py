"""`ssl-zoo compare` and `ssl-zoo card`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssl_zoo.cli import completion
from ssl_zoo.cli.options import EVALUATORS, adds, is_override

if TYPE_CHECKING:
    from ssl_zoo.comparison.request import ComparisonRequest


WHAT_IS_COMPARED = adds(
    click.argument(
        "contenders",
        nargs=-1,
        required=True,
        metavar="[METHOD|FILE|RUN]... [[METHOD:]KEY=VALUE]...",
        shell_complete=completion.methods,
    ),
    click.option(
        "--recipe",
        show_default="digits, or photos for image files",
        metavar="NAME",
        help="Recipe of methods given without one.",
    ),
    click.option(
        "--data", metavar="FOLDER", help="Folder or table of images; short for data=FOLDER."
    ),
    click.option(
        "--budget",
        metavar="AMOUNT",
        help="What training may take: 2h for all runs together, or 50M images, 3e15 FLOPs or 20 epochs for "
        "each.",
    ),
    click.option(
        "--seeds",
        default=1,
        show_default=True,
        type=click.IntRange(1, 100),
        help="Runs per method, with seeds from 0.",
    ),
    EVALUATORS,
    click.option(
        "--evaluation",
        "file",
        metavar="FILE",
        help="YAML file with the settings of the evaluation.",
    ),
    click.option(
        "--output",
        "-o",
        default="runs/compare",
        show_default=True,
        metavar="DIR",
        help="Folder for the runs and comparison.json.",
    ),
    click.option(
        "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Same as KEY=VALUE."
    ),
)
"""Argument and options of a comparison, here or on a cluster."""


@click.command("compare")
@WHAT_IS_COMPARED
@click.option(
    "--jobs",
    default=1,
    show_default=True,
    type=click.IntRange(1, 256),
    help="Runs to train at a time on this machine.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def compare_command(
    contenders: tuple[str, ...], budget: str | None, jobs: int, as_json: bool, **asked: Any
) -> None:
    """Trains methods side by side and ranks them.

    An untrained network and raw pixels are included as baselines. Complete runs are not trained again.
    FILE is the YAML file of a run, and RUN the folder of a trained run; the folder of a comparison,
    given alone, is shown. KEY=VALUE changes a setting of all runs, METHOD:KEY=VALUE of the runs of one
    method.

    \b
    ssl-zoo compare swav simclr
    ssl-zoo compare swav simclr --seeds 3 epochs=20
    ssl-zoo compare swav simclr byol --data photos --budget 2h
    ssl-zoo compare swav simclr byol dino --budget 5min
    ssl-zoo compare swav simclr --budget "200k images"
    ssl-zoo compare swav simclr epochs=20 swav:method.n_prototypes=[50]
    ssl-zoo compare runs/mine swav@digits other.yaml
    """
    from ssl_zoo.cli.console import show, width
    from ssl_zoo.comparison.compare import carry_out, prepare_comparison
    from ssl_zoo.comparison.ranking import COMPARISON_FILE, Comparison
    from ssl_zoo.report.tables import leaderboard

    if len(contenders) == 1 and (Path(contenders[0]) / COMPARISON_FILE).is_file():
        result = Comparison.load(contenders[0])
    else:
        result = carry_out(prepare_comparison(asked_for(contenders, budget, **asked)), jobs=jobs)
    if as_json:
        click.echo(result.json_text())
    else:
        show(leaderboard(result, width=width()))


def asked_for(
    contenders: tuple[str, ...],
    budget: str | None,
    *,
    data: str | None,
    file: str | None,
    evaluators: list[Any] | None,
    overrides: tuple[str, ...],
    **others: Any,
) -> "ComparisonRequest":
    """Returns the comparison that a command line asks for."""
    from ssl_zoo.comparison.contenders import is_for_one
    from ssl_zoo.comparison.request import ComparisonRequest
    from ssl_zoo.evaluation.config import EvaluationConfig, read_request

    settings = [each for each in contenders if is_override(each) or is_for_one(each)]
    return ComparisonRequest(
        methods=[each for each in contenders if each not in settings],
        budget=budget,
        overrides=[*([f"data={data}"] if data else []), *overrides, *settings],
        evaluation=read_request(EvaluationConfig, file=file, fields={"evaluators": evaluators}),
        **others,
    )
