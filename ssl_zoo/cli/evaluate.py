"""The commands that score: `ssl-zoo evaluate` and `ssl-zoo table`."""

import json
import os
import re
from pathlib import Path
from typing import Any

import click

from ssl_zoo.cli import completion
from ssl_zoo.cli.options import CACHE, adds, features_folder, how_it_is_scored, output_file
from ssl_zoo.errors import UserError


@click.command("evaluate")
@click.argument(
    "what",
    nargs=-1,
    required=True,
    metavar="[CHECKPOINT]... [KEY=VALUE]...",
    shell_complete=completion.files,
)
@how_it_is_scored
@adds(*CACHE)
@click.option("--watch", is_flag=True, help="Score the checkpoints of a run as they land.")
@click.option(
    "--every",
    default=10.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds between looks, for --watch.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the whole result as JSON.")
@click.option("--output", "-o", metavar="FILE", help="Write the result as JSON.")
def evaluate_command(
    what: tuple[str, ...],
    cache: str | None,
    no_cache: bool,
    watch: bool,
    every: float,
    as_json: bool,
    output: str | None,
    **settings: Any,
) -> None:
    """Scores a checkpoint by kNN, clustering, and whatever --evaluators names.

    CHECKPOINT is a run folder, a checkpoint folder, an exported .safetensors file, the name of a
    model card, untrained:BACKBONE, a checkpoint of another project, whose format is recognised, or
    published weights: torchvision:resnet50, timm:MODEL.
    Several stand side by side, and the best is tested against the others on the same images.
    KEY=VALUE sets fields of the data set.

    Features are kept on disk, so that a second look, or one after an interruption, is quick: in
    --cache, in SSL_ZOOCACHE, or in ~/.cache/ssl-zoo/features. Remove them there at will.

    \b
    ssl-zoo evaluate runs/swav
    ssl-zoo evaluate runs/swav runs/simclr untrained:tiny_resnet --dataset digits_affine
    ssl-zoo evaluate runs/swav --dataset cifar10 root=data --evaluators knn:instdisc,linear,health
    ssl-zoo evaluate runs/swav --layer trunk.layer3 --precision bf16
    ssl-zoo evaluate swav_800ep_pretrain.pth.tar --dataset image_folder root=imagenette2
    ssl-zoo evaluate torchvision:resnet50 --dataset cifar10 root=data --image-size 64
    ssl-zoo evaluate runs/swav --watch
    torchrun --nproc-per-node 2 -m ssl_zoo evaluate runs/swav
    """
    checkpoints, overrides = _apart(what)
    target = output_file(output) if output else None
    settings |= {"overrides": overrides, "cache": features_folder(cache, no_cache)}
    if watch:
        if target:
            raise UserError("--watch keeps results in RUN/scores; leave --output out")
        _watch(checkpoints, every, as_json, settings)
        return
    from ssl_zoo.evaluation.evaluate import evaluate

    results = [evaluate(each, **settings) for each in checkpoints]
    if os.environ.get("RANK", "0") == "0":
        _tell(results, target, as_json)


@click.command("table")
@click.argument("files", nargs=-1, required=True, metavar="[RESULT]...")
@click.option("--score", metavar="NAME", help="What is tested, such as knn/top1@k=20.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def table_command(files: tuple[str, ...], score: str | None, as_json: bool) -> None:
    """Puts results side by side and tests the best against the others.

    RESULT is a file that `evaluate --output` wrote, or a run folder with evaluation.json. Scores of
    different protocols or data are in different rows, and what differs is said; to ask for a test
    of such a pair, with --score, is an error.

    \b
    ssl-zoo table swav.json simclr.json
    ssl-zoo table swav.json simclr.json --score knn/top1@k=200
    """
    from ssl_zoo.evaluation.differences import differences, read_result, try_differences

    results = [result for file in files for result in read_result(file)]
    if score is None:
        found, why_not = try_differences(results)
    else:
        found, why_not = differences(results, score=score), ""
    _show(results, found, as_json)
    if why_not and not as_json:
        click.echo(f"not tested against each other: {why_not}")


def _tell(results: list[dict[str, Any]], target: Path | None, as_json: bool) -> None:
    from ssl_zoo.evaluation.differences import try_differences

    found, why_not = try_differences(results)
    text = json.dumps(
        results[0] if len(results) == 1 else {"results": results, "differences": found}, indent=1
    )
    if target:
        from ssl_zoo.files import write_text

        write_text(target, text + "\n")
    if as_json:
        click.echo(text)
        return
    _show(results, found, False)
    if why_not:
        click.echo(f"not tested against each other: {why_not}")


def _show(results: list[dict[str, Any]], differences: list[dict[str, Any]], as_json: bool) -> None:
    from ssl_zoo.cli.console import show
    from ssl_zoo.report.tables import results_table, scores_table

    if as_json:
        click.echo(json.dumps({"results": results, "differences": differences}, indent=1))
    elif len(results) == 1:
        show(scores_table(results[0]))
    else:
        show(results_table(results, differences))


def _watch(checkpoints: list[str], every: float, as_json: bool, settings: dict[str, Any]) -> None:
    from ssl_zoo.evaluation.watch import Watch
    from ssl_zoo.report.tables import result_line

    if len(checkpoints) != 1:
        raise UserError(f"--watch follows one run, and {len(checkpoints)} are given")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError.everywhere("--watch runs in one process; start several watchers instead")

    def report(result: dict[str, Any]) -> None:
        click.echo(json.dumps(result) if as_json else result_line(result))

    Watch(checkpoints[0], **settings).follow(report, every_s=every)


def _apart(what: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Returns checkpoints and overrides."""
    overrides = [
        each for each in what if re.match(r"[A-Za-z_][\w.]*=", each) and not Path(each).exists()
    ]
    checkpoints = [each for each in what if each not in overrides]
    if not checkpoints:
        raise UserError("evaluate needs a checkpoint; see: ssl-zoo evaluate --help")
    if len(set(checkpoints)) < len(checkpoints):
        raise UserError("a checkpoint is given twice; give each once")
    return checkpoints, overrides
