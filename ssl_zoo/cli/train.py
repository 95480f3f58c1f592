"""`ssl-zoo train` and `ssl-zoo config`."""

import os
from pathlib import Path

import click

from ssl_zoo.cli.options import CONFIG, METHOD, OVERRIDES, resolved


@click.command("config")
@METHOD
@OVERRIDES
@CONFIG
def config_command(method: str | None, overrides: tuple[str, ...], file: str | None) -> None:
    """Prints the resolved settings of a run as YAML.

    \b
    ssl-zoo config swav@imagenet-bs256-200ep
    ssl-zoo config simclr method.temperature=0.1 seed=3 > run.yaml
    """
    from ssl_zoo.config import dump_yaml

    click.echo(dump_yaml(resolved(method, overrides, file)), nl=False)


@click.command("train")
@METHOD
@OVERRIDES
@CONFIG
@click.option(
    "--output", "-o", metavar="DIR", help="Run folder; runs/METHOD-DATA-DIGEST by default."
)
def train_command(
    method: str | None, overrides: tuple[str, ...], file: str | None, output: str | None
) -> None:
    """Trains a method, or resumes its training.

    The same command with the same settings resumes from the newest checkpoint in its run folder.

    \b
    ssl-zoo train swav                           the recipe 'digits', a few minutes on a CPU
    ssl-zoo train swav@cifar10 data.root=data    another recipe
    ssl-zoo train simclr seed=3 method.temperature=0.1 epochs=50
    ssl-zoo train -o runs/swav                   resume the run in a folder
    torchrun --nproc-per-node 2 -m ssl_zoo train swav
    """
    from ssl_zoo.training.train import train

    if (method is None or "=" in method) and file is None and output is not None:
        settings = Path(output) / "config.yaml"
        file = str(settings) if settings.is_file() else None
    config = resolved(method, overrides, file)
    path = train(config, output)
    if os.environ.get("RANK", "0") == "0":
        click.echo(path)
