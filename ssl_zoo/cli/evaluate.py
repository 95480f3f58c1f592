"""The commands that score: `ssl-zoo evaluate` and `ssl-zoo table`."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssl_zoo.cli import completion
from ssl_zoo.cli.options import CACHE, adds, how_it_is_scored, is_override, with_cache
from ssl_zoo.cli.outputs import read_scores, read_table
from ssl_zoo.errors import UserError
from ssl_zoo.runs.places import output_file

if TYPE_CHECKING:
    from ssl_zoo.comparison.ranking import Comparison
    from ssl_zoo.evaluation.config import EvaluationConfig
    from ssl_zoo.evaluation.differences import Difference
    from ssl_zoo.evaluation.result import Result
    from ssl_zoo.report.score_table import ScoreTable


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
@click.option("--watch", is_flag=True, help="Score the checkpoints of a run as they are written.")
@click.option(
    "--every",
    default=10.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds between checks for new checkpoints, with --watch.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the whole result as JSON.")
@click.option("--output", "-o", metavar="FILE", help="Write the result to FILE as JSON.")
def evaluate_command(
    what: tuple[str, ...],
    file: str | None,
    no_cache: bool,
    watch: bool,
    every: float,
    as_json: bool,
    output: str | None,
    **fields: Any,
) -> None:
    """Scores checkpoints by kNN, clustering and other evaluators.

    CHECKPOINT is a run folder, a checkpoint folder, an exported .safetensors file, the name of a model
    card, untrained:BACKBONE, a checkpoint of another project, whose format is recognised, or published
    weights: torchvision:resnet50, timm:MODEL. Several checkpoints are shown side by side, and the best
    is tested against each of the others on the same images. KEY=VALUE sets any field of the request,
    such as data.root=DIR; see: ssl-zoo schema evaluation.

    Features are cached on disk, so that repeated and interrupted evaluations are fast: in --cache, in
    SSL_ZOO_CACHE, or in ~/.cache/ssl-zoo/features. The cache can be deleted at any time.

    \b
    ssl-zoo evaluate runs/swav
    ssl-zoo evaluate runs/swav runs/simclr untrained:tiny_resnet --dataset digits_affine
    ssl-zoo evaluate runs/swav --dataset cifar10 data.root=data --evaluators knn,linear
    ssl-zoo evaluate runs/swav --layer trunk.layer3 --precision bf16
    ssl-zoo evaluate swav_800ep_pretrain.pth.tar --dataset image_folder data.root=imagenette2
    ssl-zoo evaluate torchvision:resnet50 --dataset cifar10 data.root=data --image-size 64
    ssl-zoo evaluate runs/swav --config eval.yaml
    ssl-zoo evaluate runs/swav --watch
    torchrun --nproc-per-node 2 -m ssl_zoo evaluate runs/swav
    """
    from ssl_zoo.evaluation.config import EvaluationConfig, read_request

    checkpoints, overrides = _apart(what)
    target = None
    if output:
        target = output_file(output, replaces=read_scores, in_run="evaluation.json")
    request = read_request(EvaluationConfig, file=file, fields=fields, overrides=overrides)
    config = with_cache(request, no_cache)
    if watch:
        if target:
            raise UserError("--watch writes results to RUN/scores; leave out --output")
        _watch(checkpoints, every, as_json, config)
        return
    results = _scored(checkpoints, config, target)
    if os.environ.get("RANK", "0") == "0":
        _tell(results, as_json)


def _scored(
    checkpoints: list[str], config: "EvaluationConfig", target: Path | None
) -> "list[Result]":
    """Opens all checkpoints, then scores them in turn; each result is written when it is done."""
    from ssl_zoo.evaluation.evaluate import check_request, evaluate, open_for

    opened = [open_for(each, config) for each in checkpoints]
    for each in opened:
        check_request(each, config)
    results: list[Result] = []
    for each in opened:
        results.append(evaluate(each, config))
        if target and os.environ.get("RANK", "0") == "0":
            from ssl_zoo.files import write_text

            write_text(target, _json_of(results) + "\n")
    return results


@click.command("table")
@click.argument("files", nargs=-1, required=True, metavar="[RESULT]...")
@click.option("--score", metavar="NAME", help="Score to test, such as knn/top1@k=20.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--output",
    "-o",
    metavar="FILE",
    help="Write the scores to FILE: .csv with one line per score, or .json.",
)
def table_command(
    files: tuple[str, ...], score: str | None, as_json: bool, output: str | None
) -> None:
    """Shows results side by side and tests the best against others.

    RESULT is a file written by `evaluate --output`, a run folder with evaluation.json, or the folder of
    a comparison. Scores under different protocols or on different data are in different rows, with a
    note on what differs; testing such a pair with --score is an error.

    \b
    ssl-zoo table swav.json simclr.json
    ssl-zoo table swav.json simclr.json --score knn/top1@k=200
    ssl-zoo table runs/compare -o scores.csv
    """
    from ssl_zoo.report.score_table import read_scored, table

    if output and not output.endswith((".csv", ".json")):
        raise UserError(
            f"the format of '{output}' is unknown; use a name that ends in .csv or .json"
        )
    target = output_file(output, replaces=read_table) if output else None
    sources = [one for file in files for one in read_scored(file)]
    found = table(*sources, score=score)
    if target and target.suffix == ".csv":
        found.to_csv(target)
    text = _as_json(sources, found.differences)
    if target and target.suffix == ".json":
        from ssl_zoo.files import write_text

        write_text(target, text + "\n")
    if as_json:
        click.echo(text)
    else:
        _show(sources, found)


def _tell(results: "list[Result]", as_json: bool) -> None:
    from ssl_zoo.report.score_table import table

    if as_json:
        click.echo(_json_of(results))
    else:
        _show([*results], table(*results))


def _json_of(results: "list[Result]") -> str:
    """Returns one result unchanged, several with the tests between them."""
    from ssl_zoo.evaluation.differences import try_differences

    if len(results) == 1:
        return results[0].json_text()
    return _as_json(results, try_differences(results)[0])


def _as_json(sources: "Sequence[Result | Comparison]", found: "Sequence[Difference]") -> str:
    """Returns a single comparison unchanged, several sources with the tests between them."""
    from ssl_zoo.comparison.ranking import Comparison

    if len(sources) == 1 and isinstance(sources[0], Comparison):
        return sources[0].json_text()
    listed = {
        "results": [one.model_dump(mode="json") for one in sources],
        "differences": [one.model_dump(mode="json") for one in found],
    }
    return json.dumps(listed, indent=1)


def _show(sources: "Sequence[Result | Comparison]", found: "ScoreTable") -> None:
    from ssl_zoo.cli.console import say, show, width
    from ssl_zoo.comparison.ranking import Comparison
    from ssl_zoo.report.tables import leaderboard, results_table, scores_table

    first = sources[0]
    if len(sources) > 1:
        show(results_table(found, width=width()))
    elif isinstance(first, Comparison):
        show(leaderboard(first, width=width()))
    else:
        show(scores_table(first))
    if found.why_not:
        say(f"not tested against each other: {found.why_not}")


def _watch(
    checkpoints: list[str], every: float, as_json: bool, config: "EvaluationConfig"
) -> None:
    from ssl_zoo.cli.console import say
    from ssl_zoo.evaluation.watch import Watch
    from ssl_zoo.report.tables import result_line

    if len(checkpoints) != 1:
        raise UserError(f"--watch takes one run, but {len(checkpoints)} are given")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError.everywhere("--watch runs in one process; start several watchers instead")

    def report(result: "Result") -> None:
        say(json.dumps(result.model_dump(mode="json")) if as_json else result_line(result))

    Watch(checkpoints[0], config).follow(report, every_s=every)


def _apart(what: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Returns checkpoints and overrides."""
    overrides = [each for each in what if is_override(each)]
    checkpoints = [each for each in what if each not in overrides]
    if not checkpoints:
        raise UserError("evaluate needs a checkpoint; see: ssl-zoo evaluate --help")
    if len(set(checkpoints)) < len(checkpoints):
        raise UserError("a checkpoint is given twice; give each once")
    return checkpoints, overrides
