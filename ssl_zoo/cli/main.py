"""The `ssl-zoo` command. Heavy imports happen inside the commands, so that `--help` is instant."""

import io
import logging
import os
import sys

import click

from ssl_zoo._version import __version__
from ssl_zoo.cli.bench import bench_command
from ssl_zoo.cli.card import card_command
from ssl_zoo.cli.classify import classify_command
from ssl_zoo.cli.cluster import cluster_command
from ssl_zoo.cli.compare import compare_command
from ssl_zoo.cli.convert import export_command, import_command
from ssl_zoo.cli.doctor import doctor_command
from ssl_zoo.cli.embed import embed_command
from ssl_zoo.cli.evaluate import evaluate_command, table_command
from ssl_zoo.cli.exits import run
from ssl_zoo.cli.explore import explore_command
from ssl_zoo.cli.inspect import inspect_command
from ssl_zoo.cli.jobs import (
    cancel_command,
    jobs_command,
    logs_command,
    release_command,
    requeue_command,
)
from ssl_zoo.cli.list import list_command, schema_command, show_command
from ssl_zoo.cli.new import new_command
from ssl_zoo.cli.options import takes_plugins
from ssl_zoo.cli.plan import plan_command
from ssl_zoo.cli.preview import preview_command
from ssl_zoo.cli.report import report_command
from ssl_zoo.cli.shards import shards_command
from ssl_zoo.cli.submit import submit_command
from ssl_zoo.cli.train import config_command, train_command
from ssl_zoo.plain_text import printable


class _Formatter(logging.Formatter):
    """Writes the control characters in names of files out."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="ssl-zoo")
@click.option("--quiet", "-q", is_flag=True, help="Print only warnings and results.")
def cli(quiet: bool) -> None:
    """Self-supervised learning: train, resume, score and compare methods by name.

    \b
    ssl-zoo list methods             the available methods
    ssl-zoo show method swav         its description and settings
    ssl-zoo train swav               a small run, a few minutes on a CPU
    ssl-zoo plan photos              settings for your own images, within a budget
    ssl-zoo shards photos -o tars    millions of images in a few large files
    ssl-zoo bench swav               how fast it trains here, and what bounds it
    ssl-zoo compare swav simclr      methods side by side
    ssl-zoo report runs/compare      curves, scores and verdicts in a browser
    ssl-zoo evaluate FILE            score any checkpoint, also of other projects
    ssl-zoo embed FILE photos -o features.parquet    features of your own images
    ssl-zoo doctor runs/swav         what is wrong with a run, and what to do
    ssl-zoo submit swav              train on a SLURM cluster; then: ssl-zoo jobs
    ssl-zoo new method mine          a package template for your own method
    ssl-zoo train mine --plugin mine.py    a method from a single file
    """
    rank = os.environ.get("RANK", "0")
    level = logging.WARNING if quiet or rank != "0" else logging.INFO
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("%(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
    for noisy in ("faiss", "fvcore", "torch", "matplotlib", "onnxscript", "onnx_ir"):
        logging.getLogger(noisy).setLevel(logging.ERROR)


for _command in (
    list_command,
    show_command,
    schema_command,
    config_command,
    plan_command,
    bench_command,
    inspect_command,
    shards_command,
    train_command,
    compare_command,
    card_command,
    evaluate_command,
    import_command,
    export_command,
    cluster_command,
    embed_command,
    classify_command,
    preview_command,
    report_command,
    doctor_command,
):
    cli.add_command(takes_plugins(_command))
for _command in (
    new_command,
    explore_command,
    table_command,
    submit_command,
    jobs_command,
    logs_command,
    cancel_command,
    requeue_command,
    release_command,
):
    cli.add_command(_command)
for _command in submit_command.commands.values():
    takes_plugins(_command)
takes_plugins(cli)


def main() -> None:
    """Runs the command line with the arguments of this process."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files need not be UTF-8
        sys.stdout.reconfigure(errors="surrogateescape")
    run(cli)
