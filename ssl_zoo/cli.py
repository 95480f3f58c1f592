"""The `ssl-zoo` command. Heavy imports happen inside the commands, so that `--help` is instant."""

import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from ssl_zoo._version import __version__
from ssl_zoo.errors import UserError

KIND_NAMES = (
    "methods",
    "backbones",
    "heads",
    "losses",
    "augmentations",
    "datasets",
    "optimizers",
    "evaluators",
)


class _Kind(click.ParamType):  # type: ignore[type-arg]
    """A kind of component, singular or plural."""

    name = "kind"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        for kind in KIND_NAMES:
            if value in (kind, kind[:-1], kind[:-2] if kind == "losses" else kind):
                return kind
        raise UserError(f"unknown kind '{value}'. Known: {', '.join(KIND_NAMES)}")


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with:  ssl-zoo list methods   |   ssl-zoo show method swav   |   "
    "ssl-zoo train swav   |   ssl-zoo compare swav simclr",
)
@click.version_option(__version__, prog_name="ssl-zoo")
@click.option("--quiet", "-q", is_flag=True, help="Print warnings and results only.")
def cli(quiet: bool) -> None:
    """Self-supervised learning by name: train, resume, score and compare methods."""
    rank = os.environ.get("RANK", "0")
    level = logging.WARNING if quiet or rank != "0" else logging.INFO
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
    for noisy in ("fvcore", "torch", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.ERROR)


@cli.command("list")
@click.argument("kind", type=_Kind(), required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_command(kind: str | None, as_json: bool) -> None:
    """Lists what is registered, of one KIND or of all.

    KIND is methods, backbones, heads, losses, augmentations, datasets, optimizers or evaluators.
    """
    from ssl_zoo import plugins
    from ssl_zoo.describe import listing

    plugins.discover()
    kinds = [kind] if kind else list(KIND_NAMES)
    found = {each: listing(each) for each in kinds}
    if as_json:
        click.echo(json.dumps({**found, "broken_plugins": plugins.failure_lines()}, indent=1))
        return
    for each, rows in found.items():
        table = Table(
            title=each, title_justify="left", title_style="bold", box=None, pad_edge=False
        )
        for column in ("name", "what it is", "source"):
            table.add_column(column, overflow="fold", no_wrap=column == "name")
        for row in rows:
            table.add_row(row["name"], row["summary"], row["paper"])
        _console().print(table, "")


@cli.command("show")
@click.argument("kind", type=_Kind())
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show_command(kind: str, name: str, as_json: bool) -> None:
    """Shows one component: what it is, and each setting with type, bounds and default."""
    from ssl_zoo.describe import details

    found = details(kind, name)
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    console = _console()
    console.print(f"[bold]{name}[/bold]  ({found['module']})\n\n{found['doc']}\n", highlight=False)
    if found["paper"]:
        console.print(f"Source: {found['paper']}\n", highlight=False)
    table = Table(box=None, pad_edge=False)
    for column in ("setting", "type", "bounds", "default", "meaning"):
        table.add_column(column, overflow="fold")
    for row in found["fields"]:
        table.add_row(
            *(click.unstyle(row[key]) for key in ("key", "type", "bounds", "default", "doc"))
        )
    console.print(table)
    if "recipes" in found:
        recipes = ", ".join(f"{name}@{recipe}" for recipe in found["recipes"])
        console.print(f"\nRecipes: {recipes}", highlight=False)
    if "size" in found:
        size = found["size"]
        flops = size["multiply_adds"]
        shown = f"{flops / 1e9:.3g} G multiply-adds" if flops else "multiply-adds unknown"
        console.print(
            f"\n{size['parameters'] / 1e6:.4g} M parameters, {size['feature_dim']} features, "
            f"{shown} at {size['at_image_size']}x{size['at_image_size']}",
            highlight=False,
        )


@cli.command("schema")
def schema_command() -> None:
    """Prints the JSON schema of a run, for editors that complete and check YAML."""
    from ssl_zoo.run_config import RunConfig

    click.echo(json.dumps(RunConfig.model_json_schema(), indent=1))


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
    ssl-zoo config swav@imagenet-bs256
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
    """Trains a method; started again with the same settings, it goes on where it stopped.

    \b
    ssl-zoo train swav                           the recipe 'digits', minutes on a CPU
    ssl-zoo train swav@cifar10 data.root=data    another recipe
    ssl-zoo train simclr seed=3 method.temperature=0.1 epochs=50
    torchrun --nproc-per-node 2 -m ssl_zoo train swav
    """
    from ssl_zoo.training import train

    config = _run_config(method, overrides, file)
    path = train(config, output)
    if os.environ.get("RANK", "0") == "0":
        click.echo(path)


@cli.command("evaluate")
@click.argument("checkpoint")
@click.option("--dataset", metavar="NAME", help="Data set; by default the one it was trained on.")
@click.option("--evaluators", default="knn,clustering", show_default=True, metavar="A,B")
@click.option("--json", "as_json", is_flag=True, help="Print the whole result as JSON.")
@click.option("--output", "-o", metavar="FILE", help="Write the result as JSON.")
@click.option("--seed", default=0, show_default=True, help="Seed of clustering and intervals.")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
def evaluate_command(
    checkpoint: str,
    dataset: str | None,
    evaluators: str,
    as_json: bool,
    output: str | None,
    seed: int,
    overrides: tuple[str, ...],
) -> None:
    """Scores frozen features by kNN and clustering.

    CHECKPOINT is a run folder, a checkpoint folder, an exported .safetensors file, the name of a
    model card, or untrained:BACKBONE. KEY=VALUE sets fields of the data set.

    \b
    ssl-zoo evaluate runs/swav
    ssl-zoo evaluate runs/swav --dataset cifar10 root=data --evaluators knn:instdisc
    ssl-zoo evaluate untrained:resnet18 --dataset digits
    """
    from ssl_zoo.evaluation import evaluate
    from ssl_zoo.report.tables import scores_table

    result = evaluate(
        checkpoint,
        dataset=dataset,
        evaluators=[part for part in evaluators.split(",") if part],
        overrides=overrides,
        seed=seed,
    )
    text = json.dumps(result, indent=1)
    if output:
        from ssl_zoo.checkpoint import write_text

        write_text(Path(output), text + "\n")
    if os.environ.get("RANK", "0") != "0":
        return
    if as_json:
        click.echo(text)
    else:
        _console().print(scores_table(result))


@cli.command("compare")
@click.argument("methods", nargs=-1, required=True, metavar="METHOD[@RECIPE]...")
@click.option(
    "--recipe", default="digits", show_default=True, help="Recipe of methods without one."
)
@click.option(
    "--seeds", default=1, show_default=True, type=click.IntRange(1, 100), help="Runs each."
)
@click.option("--evaluators", default="knn,clustering", show_default=True, metavar="A,B")
@click.option("--output", "-o", default="runs/compare", show_default=True, metavar="DIR")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Setting for all runs."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def compare_command(
    methods: tuple[str, ...],
    recipe: str,
    seeds: int,
    evaluators: str,
    output: str,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Trains methods side by side and ranks them, beside an untrained network and raw pixels.

    Runs that are complete are not trained again.

    \b
    ssl-zoo compare swav simclr
    ssl-zoo compare swav simclr --seeds 3 --set epochs=20
    """
    from ssl_zoo.comparison import compare
    from ssl_zoo.report.tables import leaderboard

    result = compare(
        list(methods),
        recipe=recipe,
        seeds=seeds,
        evaluators=[part for part in evaluators.split(",") if part],
        output=output,
        overrides=overrides,
    )
    if as_json:
        click.echo(json.dumps(result, indent=1))
    else:
        _console().print(leaderboard(result))


@cli.command("card")
@click.argument("run")
@click.option("--output", "-o", default="model_cards", show_default=True, metavar="DIR")
@click.option("--name", help="Name of the card; by default METHOD_BACKBONE_DATA_EPOCHSep.")
def card_command(run: str, output: str, name: str | None) -> None:
    """Writes the model card of a finished RUN, with its weights, from measurements made now."""
    from ssl_zoo.report.card import write_card

    click.echo(write_card(run, Path(output), name=name))


def _run_config(method: str | None, overrides: tuple[str, ...], file: str | None) -> Any:
    from ssl_zoo.run_config import run_config

    if method is not None and "=" in method:  # `ssl-zoo train --config FILE seed=3`
        return run_config(None, file=file, overrides=(method, *overrides))
    return run_config(method, file=file, overrides=overrides)


def _console() -> Console:
    width = None if sys.stdout.isatty() else 120
    return Console(width=width, highlight=False)


def main(command: Callable[..., Any] = cli) -> None:
    """Runs the command line; a user's mistake is one line on standard error and exit status 2."""
    try:
        command(prog_name="ssl-zoo", standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(128 + signal.SIGINT)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except UserError as error:
        _fail(str(error), 2)
    except KeyboardInterrupt:
        _fail("stopped", 128 + signal.SIGINT)
    except BrokenPipeError:
        sys.exit(141)
    except Exception as error:
        _exit_if_interrupted(error)
        raise


def _exit_if_interrupted(error: Exception) -> None:
    training = sys.modules.get("ssl_zoo.training")
    if training is not None and isinstance(error, training.Interrupted):
        again = " ".join(["ssl-zoo", *sys.argv[1:]])
        _fail(f"{error}; go on with: {again}", 128 + error.signum)


def _fail(message: str, status: int) -> None:
    if os.environ.get("RANK", "0") == "0":
        for line in message.splitlines():
            click.echo(f"ssl-zoo: {line}", err=True)
    sys.exit(status)
