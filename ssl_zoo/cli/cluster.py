"""The command `ssl-zoo cluster`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssl_zoo.cli.options import how_features_are_taken, with_cache
from ssl_zoo.errors import UserError

if TYPE_CHECKING:
    from ssl_zoo.explore.clustered import ClusterFacts, Clusters

MOST_NAMED = 20
"""Number of clusters, the largest, whose names are printed."""


class Count(click.ParamType):  # type: ignore[type-arg]
    """A number of clusters, or `auto`."""

    name = "count"

    def convert(self, value: Any, param: Any, ctx: Any) -> int | str:
        if isinstance(value, int) or value == "auto":
            return value  # type: ignore[no-any-return]
        if not str(value).isdecimal() or int(value) < 2:
            raise UserError(f"--clusters must be a number of 2 or more, or 'auto', not {value!r}")
        return int(value)


@click.command("cluster")
@click.argument("checkpoint")
@click.argument("data")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--output", "-o", required=True, metavar="DIR", help="Folder to write the clusters to."
)
@click.option(
    "--clusters",
    "n_clusters",
    type=Count(),
    metavar="N|auto",
    help="Number of clusters; by default the number of classes. 'auto' takes the most stable number.",
)
@click.option(
    "--names",
    metavar="FILE",
    help="Table with labels of some images of a folder (path, label), which name the clusters.",
)
@click.option(
    "--split",
    type=click.Choice(["train", "test"]),
    show_default="test",
    help="Split of a data set to cluster.",
)
@click.option(
    "--prototypes",
    is_flag=True,
    default=None,
    help="Use the run's own prototypes as clusters instead of k-means.",
)
@how_features_are_taken
@click.option(
    "--restarts",
    "n_restarts",
    show_default="5",
    type=click.IntRange(1, 1000),
    help="Random starts of k-means; the best is kept.",
)
@click.option(
    "--iterations",
    "n_iterations",
    show_default="25",
    type=click.IntRange(1, 10_000),
    help="Iterations of k-means.",
)
@click.option(
    "--table",
    type=click.Choice(["csv", "parquet"]),
    show_default="csv",
    help="File format of the assignments; parquet needs pyarrow.",
)
@click.option(
    "--sheets",
    "n_sheets",
    show_default="100",
    type=click.IntRange(0),
    help="Maximum number of contact sheets, for the largest clusters.",
)
@click.option(
    "--sheet-images",
    show_default="25",
    type=click.IntRange(1, 400),
    help="Images per contact sheet.",
)
@click.option("--overwrite", is_flag=True, help="Replace existing clusters in DIR.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole result as JSON.")
def cluster_command(
    checkpoint: str,
    data: str,
    overrides: tuple[str, ...],
    output: str,
    file: str | None,
    no_cache: bool,
    overwrite: bool,
    as_json: bool,
    **fields: Any,
) -> None:
    """Clusters images by the features of a checkpoint.

    CHECKPOINT is anything that `ssl-zoo evaluate` accepts. DATA is the name of a data set, or a folder
    of images, nested or flat. A folder does not need labels; with data.labels=folders, its subfolders
    are used as classes. KEY=VALUE sets any field of the request; see: ssl-zoo schema cluster.

    Writes to DIR: a table of assignments, clusters.json (sizes, scores, settings), the centroids, a
    contact sheet of the images nearest to each centroid, and index.html, which shows all sheets.

    With --clusters auto, numbers from 2 to 50 are tried: five random parts of the images are clustered,
    and the number is taken whose clusters agree best (mean adjusted Rand index). It tends to few
    clusters; all candidates are told. A cluster is named by the most frequent label of its images, with
    its share; it is 'unnamed' if none of them has a label.

    \b
    ssl-zoo cluster runs/swav digits_affine -o clusters
    ssl-zoo cluster runs/swav photos --clusters 50 -o clusters
    ssl-zoo cluster runs/swav photos --clusters auto --names labels.csv -o clusters
    ssl-zoo cluster runs/swav photos --prototypes -o clusters
    ssl-zoo cluster runs/swav photos data.labels=folders -o clusters --overwrite
    ssl-zoo cluster runs/swav cifar10 data.root=data --clusters 100 --split train -o clusters
    """
    from ssl_zoo.evaluation.config import read_request
    from ssl_zoo.explore.cluster import cluster
    from ssl_zoo.explore.config import ClusterConfig

    request = read_request(ClusterConfig, file=file, fields=fields, overrides=overrides)
    config = with_cache(request, no_cache)
    result = cluster(checkpoint, data, config, output=output, overwrite=overwrite)
    if os.environ.get("RANK", "0") == "0":
        from ssl_zoo.cli.console import say

        say(result.json_text() if as_json else _told(result, output))


def _told(result: "Clusters", output: str) -> str:
    from ssl_zoo.explore.folder import PAGE
    from ssl_zoo.explore.page import scores_line
    from ssl_zoo.explore.stability import told

    sizes = [one.size for one in result.clusters]
    lines = [
        f"{result.n_clusters} clusters of {result.n_images} images, {sizes[-1]} to "
        f"{sizes[0]} images each",
        scores_line(result.scores),
    ]
    if result.stability:
        lines.insert(1, told(result.stability))
    if any(one.n_labelled is not None for one in result.clusters):
        lines += [_named(one) for one in result.clusters[:MOST_NAMED]]
    return "\n".join([*lines, str(Path(output) / PAGE)])


def _named(one: "ClusterFacts") -> str:
    """Returns number, size and name of a cluster, with the share of its labels."""
    n = one.n_labelled or 0
    share = f", {100 * one.majority.share:.0f} % of {n} labelled" if one.majority else ""
    return f"  cluster {one.cluster}: {one.size} images, {one.name}{share}"
