"""The command `ssl-zoo classify`."""

import os
from typing import TYPE_CHECKING, Any

import click

from ssl_zoo.cli import completion
from ssl_zoo.cli.options import CACHE, adds, how_a_network_is_used, with_cache

if TYPE_CHECKING:
    from ssl_zoo.explore.classifier import ClassifierFacts


@click.command("classify")
@click.argument("checkpoint")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--output", "-o", required=True, metavar="DIR", help="Folder to write the classifier to."
)
@click.option(
    "--dataset",
    "data",
    metavar="NAME",
    shell_complete=completion.datasets,
    help="Data set; by default that of training. Short for data=NAME.",
)
@click.option(
    "--fine-tune",
    is_flag=True,
    default=None,
    help="Train the whole network instead of a linear layer on frozen features.",
)
@how_a_network_is_used
@adds(*CACHE)
@click.option("--no-onnx", is_flag=True, help="Write no ONNX graph.")
@click.option("--overwrite", is_flag=True, help="Replace an existing classifier in DIR.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole result as JSON.")
def classify_command(
    checkpoint: str,
    overrides: tuple[str, ...],
    output: str,
    file: str | None,
    no_cache: bool,
    no_onnx: bool,
    overwrite: bool,
    as_json: bool,
    **fields: Any,
) -> None:
    """Trains a classifier on labelled images, tests it, and saves it.

    CHECKPOINT is anything that `ssl-zoo evaluate` accepts. The train split of the data set is used for
    training, and the test split for the accuracy with its interval. By default a linear layer is trained
    on frozen features, as by the evaluator linear; with --fine-tune the whole network, as by finetune
    on all labels. KEY=VALUE sets any field of the request, such as linear.penalties=[0.01] or
    finetune.epochs=50; see: ssl-zoo schema classify.

    Writes to DIR: classifier.json (names of classes, preprocessing, accuracy), the network and the
    linear layer as safetensors, and classifier.onnx, which needs: pip install 'ssl-zoo[onnx]'.

    \b
    ssl-zoo classify runs/swav -o model
    ssl-zoo classify runs/swav --dataset image_folder data.root=photos -o model
    ssl-zoo classify torchvision:resnet50 --dataset cifar10 data.root=data --fine-tune -o model
    """
    from ssl_zoo.evaluation.config import read_request
    from ssl_zoo.explore.classify import classify
    from ssl_zoo.explore.config import ClassifyConfig

    request = read_request(ClassifyConfig, file=file, fields=fields, overrides=overrides)
    config = with_cache(request, no_cache)
    result = classify(checkpoint, config, output=output, onnx=not no_onnx, overwrite=overwrite)
    if os.environ.get("RANK", "0") == "0":
        from ssl_zoo.cli.console import say

        say(result.json_text() if as_json else _told(result, output))


def _told(result: "ClassifierFacts", output: str) -> str:
    low, high = result.intervals["top1"]
    lines = [
        f"top-1 accuracy {result.scores['top1']:.1f} % [{low:.1f}, {high:.1f}] on {result.n_test} test "
        f"images, {len(result.class_names)} classes, trained on {result.n_train} images"
    ]
    if result.n_test_in_train:
        lines.append(
            f"{result.n_test_in_train} test images are also train images; the accuracy may be too optimistic"
        )
    return "\n".join([*lines, output])
