"""The `ssl-zoo` command. Heavy imports happen inside the commands, so that `--help` is instant."""

import json
import logging
import os
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ssl_zoo._version import __version__
from ssl_zoo.clusters.command import cluster_command
from ssl_zoo.converting import export_command, import_command
from ssl_zoo.describing import list_command, schema_command, show_command
from ssl_zoo.errors import UserError
from ssl_zoo.evaluating import EVALUATORS, evaluate_command, table_command
from ssl_zoo.launch.submitting import submit_command
from ssl_zoo.launch.watching import (
    cancel_command,
    jobs_command,
    logs_command,
    release_command,
    requeue_command,
)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="ssl-zoo")
@click.option("--quiet", "-q", is_flag=True, help="Print warnings and results only.")
def cli(quiet: bool) -> None:
    """Self-supervised learning by name: train, resume, score and compare methods.

    \b
    ssl-zoo list methods             what there is
    ssl-zoo show method swav         what it is and what can be set
    ssl-zoo train swav               a small run, minutes on a CPU
    ssl-zoo compare swav simclr      methods side by side
    ssl-zoo evaluate FILE            score any checkpoint, of other projects too
    ssl-zoo submit swav              the same on a SLURM cluster; then: ssl-zoo jobs
    """
    rank = os.environ.get("RANK", "0")
    level = logging.WARNING if quiet or rank != "0" else logging.INFO
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
    for noisy in ("faiss", "fvcore", "torch", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.ERROR)


_METHOD = click.argument("method", required=False, metavar="[METHOD[@RECIPE]]")
_OVERRIDES = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
_CONFIG = click.option("--config", "file", help="YAML file in place of a recipe.", metavar="FILE")


@cli.command("config")
@_METHOD
@_OVERRIDES
@_CONFIG
def config_command(method: str | None, overrides: tuple[str, ...], file: str | None) -> None:
    """Prints the resolved settings of a run as YAML.

    \b
    ssl-zoo config swav@imagenet-bs256-200ep
    ssl-zoo config simclr method.temperature=0.1 seed=3 > run.yaml
    """
    from ssl_zoo.config import dump_yaml

    click.echo(dump_yaml(_run_config(method, overrides, file)), nl=False)


@cli.command("train")
@_METHOD
@_OVERRIDES
@_CONFIG
@click.option(
    "--output", "-o", metavar="DIR", help="Run folder; by default runs/METHOD-DATA-DIGEST."
)
def train_command(
    method: str | None, overrides: tuple[str, ...], file: str | None, output: str | None
) -> None:
    """Trains a method, or goes on where it stopped.

    The same command with the same settings goes on from the newest checkpoint in its run folder.

    \b
    ssl-zoo train swav                           the recipe 'digits', minutes on a CPU
    ssl-zoo train swav@cifar10 data.root=data    another recipe
    ssl-zoo train simclr seed=3 method.temperature=0.1 epochs=50
    ssl-zoo train -o runs/swav                   what is there already goes on
    torchrun --nproc-per-node 2 -m ssl_zoo train swav
    """
    from ssl_zoo.training import train

    if (method is None or "=" in method) and file is None and output is not None:
        settings = Path(output) / "config.yaml"
        file = str(settings) if settings.is_file() else None
    config = _run_config(method, overrides, file)
    path = train(config, output)
    if os.environ.get("RANK", "0") == "0":
        click.echo(path)


@cli.command("compare")
@click.argument("methods", nargs=-1, required=True, metavar="METHOD[@RECIPE]...")
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
    from ssl_zoo.comparison import compare
    from ssl_zoo.report.console import show, width
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


@cli.command("card")
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


for _command in (
    list_command,
    show_command,
    schema_command,
    evaluate_command,
    table_command,
    import_command,
    export_command,
    cluster_command,
    submit_command,
    jobs_command,
    logs_command,
    cancel_command,
    requeue_command,
    release_command,
):
    cli.add_command(_command)


def _run_config(method: str | None, overrides: tuple[str, ...], file: str | None) -> Any:
    from ssl_zoo.run_config import run_config

    if method is not None and "=" in method:  # `ssl-zoo train --config FILE seed=3`
        return _run_config(None, (method, *overrides), file)
    try:
        return run_config(method, file=file, overrides=overrides)
    except UserError as error:
        error.on_all_ranks = True  # all were given the same arguments
        raise


def main(command: Callable[..., Any] = cli) -> None:
    """Runs the command line; a user's mistake is one line on standard error and exit status 2."""
    try:
        command(prog_name="ssl-zoo", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        _fail(_explain_usage(error), error.exit_code)
    except UserError as error:
        _fail(str(error), 2, on_all_ranks=error.on_all_ranks)
    except (click.exceptions.Abort, KeyboardInterrupt):  # click turns the one into the other
        _fail("stopped", 128 + signal.SIGINT)
    except BrokenPipeError:
        sys.exit(141)
    except OSError as error:
        if error.filename is None:
            raise
        _fail(f"'{error.filename}' cannot be used: {error.strerror}", 2)
    except Exception as error:
        _exit_if_interrupted(error)
        raise


def _explain_usage(error: click.ClickException) -> str:
    near = getattr(error, "possibilities", None)
    if near:
        near[1:] = []  # the nearest comes first, and one is enough
    message = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    help_of = context.command_path if context else "ssl-zoo"
    message = message[:1].lower() + message[1:]
    see = " See" if message.endswith("?") else "; see"
    return f"{message}{see} {help_of} --help"


def _exit_if_interrupted(error: Exception) -> None:
    outcome = sys.modules.get("ssl_zoo.outcome")
    if outcome is not None and isinstance(error, outcome.Interrupted):
        again = " ".join(["ssl-zoo", *map(shlex.quote, sys.argv[1:])])
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            again = "the same command"
        _fail(f"{error}; go on with: {again}", 128 + error.signum, on_all_ranks=True)


def _fail(message: str, status: int, *, on_all_ranks: bool = False) -> None:
    rank = int(os.environ.get("RANK", "0"))
    if rank == 0 or not on_all_ranks:
        who = f"ssl-zoo, rank {rank}" if rank else "ssl-zoo"
        for line in message.splitlines():
            click.echo(f"{who}: {line}", err=True)
    sys.exit(status)
