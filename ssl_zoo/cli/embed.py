"""The command `ssl-zoo embed`."""

import os
from typing import TYPE_CHECKING, Any

import click

from ssl_zoo.cli.options import data_and_overrides, how_features_are_computed

if TYPE_CHECKING:
    from ssl_zoo.explore.embedded import Embedded


@click.command("embed")
@click.argument("checkpoint")
@click.argument("rest", nargs=-1, metavar="[DATA] [KEY=VALUE]...")
@click.option(
    "--output",
    "-o",
    required=True,
    metavar="FILE",
    help="File to write: .parquet (needs pyarrow), .npz or .csv.",
)
@click.option(
    "--split",
    type=click.Choice(["train", "test", "all"]),
    show_default="all",
    help="Split of a data set to embed.",
)
@click.option("--normalize", is_flag=True, default=None, help="Scale each feature to length 1.")
@click.option(
    "--patches",
    is_flag=True,
    default=None,
    help="Write the features of all patches instead of one per image.",
)
@how_features_are_computed
@click.option(
    "--cache",
    metavar="DIR",
    help="Folder in which features are cached; by default they are only in FILE.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing file of features.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print what is known of the features as JSON."
)
def embed_command(
    checkpoint: str,
    rest: tuple[str, ...],
    output: str,
    file: str | None,
    overwrite: bool,
    as_json: bool,
    **fields: Any,
) -> None:
    """Writes the features of images to a file.

    CHECKPOINT is anything that `ssl-zoo evaluate` accepts. DATA is a folder of images, nested or flat,
    or the name of a data set; by default it is the data set that the checkpoint was trained on.
    KEY=VALUE sets any field of the request; see: ssl-zoo schema embed.

    FILE has one row per image that can be read: its position, its path in the folder, its label and
    split if known, and its feature. It also says how they were made. --layer takes any layer: maps are
    averaged over positions, tokens over tokens. With --patches neither is averaged: each image has one
    feature per position of a map, or per patch token, in reading order.

    The same command continues where a killed one stopped. Under torchrun, processes share the work.

    \b
    ssl-zoo embed runs/swav photos -o features.parquet
    ssl-zoo embed runs/swav photos data.labels=folders -o features.npz --normalize
    ssl-zoo embed runs/swav digits --split test -o features.csv
    ssl-zoo embed torchvision:resnet50 photos --layer trunk.layer4 --patches -o patches.parquet
    torchrun --nproc-per-node 2 -m ssl_zoo embed runs/swav photos -o features.parquet
    """
    from ssl_zoo.evaluation.config import read_request
    from ssl_zoo.explore.config import EmbedConfig
    from ssl_zoo.explore.embed import embed

    data, overrides = data_and_overrides(rest)
    config = read_request(EmbedConfig, file=file, fields=fields, overrides=overrides)
    result = embed(checkpoint, data, config, output=output, overwrite=overwrite)
    if os.environ.get("RANK", "0") == "0":
        from ssl_zoo.cli.console import say

        say(result.json_text() if as_json else _told(result, output))


def _told(result: "Embedded", output: str) -> str:
    from ssl_zoo.data.reader import shorten

    count = "x".join(map(str, result.shape))
    lines = [f"{result.n_images} image{'s' * (result.n_images != 1)}, {count} numbers each"]
    if result.unreadable:
        n = len(result.unreadable)
        lines.append(f"{n} without a row, not readable: {shorten(result.unreadable)}")
    return "\n".join([*lines, output])
