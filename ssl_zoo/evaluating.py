"""The commands that score: `ssl-zoo evaluate` and `ssl-zoo table`."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ssl_zoo.errors import UserError


class _Evaluators(click.ParamType):  # type: ignore[type-arg]
    """Names or settings of evaluators, between commas."""

    name = "evaluators"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if not isinstance(value, str):
            return value
        from ssl_zoo.config import parse_yaml

        parts = [part.strip() for part in _split(value)]
        source = "--evaluators"
        return [
            parse_yaml(part, source=source) if part.startswith("{") else part
            for part in parts
            if part
        ]


def _split(text: str) -> list[str]:
    """Splits at commas outside braces and brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "{[") - (letter in "}]")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


class _Megabytes(click.ParamType):  # type: ignore[type-arg]
    """A size such as 2GB, 500MB, or 500 for megabytes."""

    name = "size"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(MB|GB)?", str(value), re.IGNORECASE)
        size = float(found[1]) * (1000 if (found[2] or "").upper() == "GB" else 1) if found else 0
        if size < 1:
            raise UserError(f"'{value}' is no size; write 500MB or 2GB")
        return int(size)


class _Settings(click.ParamType):  # type: ignore[type-arg]
    """A component's name, or its settings in braces."""

    name = "settings"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if not isinstance(value, str) or not value.startswith("{"):
            return value
        from ssl_zoo.config import parse_yaml

        return parse_yaml(value, source="--format")


FORMAT = click.option(
    "--format",
    type=_Settings(),
    metavar="NAME",
    help="Format of a foreign file, where it is not recognised; see: ssl-zoo list formats.",
)
EVALUATORS = click.option(
    "--evaluators",
    default="knn,clustering",
    show_default=True,
    type=_Evaluators(),
    metavar="A,B",
    help="What is scored: knn, knn:instdisc, '{name: knn, k: [1, 5]}'; see: ssl-zoo list evaluators.",
)
_FEATURES = (
    FORMAT,
    click.option("--layer", default="pooled", show_default=True, help="Where features are taken."),
    click.option("--image-size", type=click.IntRange(2), metavar="PIXELS", help="Of the images."),
    click.option(
        "--precision",
        type=click.Choice(["fp32", "bf16", "fp16"]),
        default="fp32",
        show_default=True,
        help="Of the network's arithmetic.",
    ),
    click.option("--batch-size", default=256, show_default=True, type=click.IntRange(1)),
    click.option(
        "--workers",
        "num_workers",
        default=0,
        show_default=True,
        type=click.IntRange(0),
        help="Loader processes, for image files.",
    ),
)
_SCORES = (
    click.option(
        "--dataset", metavar="NAME", help="Data set; by default the one it was trained on."
    ),
    EVALUATORS,
    *_FEATURES,
    click.option(
        "--memory-budget",
        "memory_mb",
        type=_Megabytes(),
        metavar="SIZE",
        help="For neighbours and rankings, beside the features: 2GB.",
    ),
    click.option(
        "--seed",
        default=0,
        show_default=True,
        type=click.IntRange(0, 2**31 - 1),
        help="Of clusters, draws and intervals.",
    ),
)
_CACHE = (
    click.option("--cache", metavar="DIR", help="Folder in which features are kept."),
    click.option("--no-cache", is_flag=True, help="Keep features in memory only."),
)


_Command = TypeVar("_Command", bound=Callable[..., Any])


def _adds(*options: Any) -> Callable[[_Command], _Command]:
    def add(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


how_features_are_taken = _adds(*_FEATURES, *_CACHE)
"""Adds the options that say how a checkpoint sees images, and where its features are kept."""
how_it_is_scored = _adds(*_SCORES)
"""Adds the options that say how a checkpoint is scored; they are arguments of `evaluate`."""


def features_folder(cache: str | None, no_cache: bool) -> Path | None:
    """Returns the folder that features are kept in, as the options say."""
    from ssl_zoo.feature_cache import cache_folder

    if no_cache:
        return None
    return Path(cache) if cache else cache_folder()


@click.command("evaluate")
@click.argument("what", nargs=-1, required=True, metavar="[CHECKPOINT]... [KEY=VALUE]...")
@how_it_is_scored
@_adds(*_CACHE)
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
    --cache, in SSL_ZOO_CACHE, or in ~/.cache/ssl-zoo/features. Remove them there at will.

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
    from ssl_zoo.evaluation import evaluate

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
    from ssl_zoo.results import differences, read, try_differences

    results = [result for file in files for result in read(file)]
    if score is None:
        found, why_not = try_differences(results)
    else:
        found, why_not = differences(results, score=score), ""
    _show(results, found, as_json)
    if why_not and not as_json:
        click.echo(f"not tested against each other: {why_not}")


def _tell(results: list[dict[str, Any]], target: Path | None, as_json: bool) -> None:
    from ssl_zoo.results import try_differences

    found, why_not = try_differences(results)
    text = json.dumps(
        results[0] if len(results) == 1 else {"results": results, "differences": found}, indent=1
    )
    if target:
        from ssl_zoo.checkpoint import write_text

        write_text(target, text + "\n")
    if as_json:
        click.echo(text)
        return
    _show(results, found, False)
    if why_not:
        click.echo(f"not tested against each other: {why_not}")


def _show(results: list[dict[str, Any]], differences: list[dict[str, Any]], as_json: bool) -> None:
    from ssl_zoo.report.console import show
    from ssl_zoo.report.tables import results_table, scores_table

    if as_json:
        click.echo(json.dumps({"results": results, "differences": differences}, indent=1))
    elif len(results) == 1:
        show(scores_table(results[0]))
    else:
        show(results_table(results, differences))


def _watch(checkpoints: list[str], every: float, as_json: bool, settings: dict[str, Any]) -> None:
    from ssl_zoo.report.tables import result_line
    from ssl_zoo.watch import Watch

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


def output_file(path: str) -> Path:
    """Makes the folder of a file before hours of work go into it.

    Raises:
        UserError: it cannot be written there.
    """
    file = Path(path)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"'{path}' cannot be written: {error.strerror}") from None
    if file.is_dir() or not os.access(file.parent, os.W_OK):
        raise UserError(f"'{path}' cannot be written; choose another --output")
    return file
