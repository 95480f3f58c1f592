"""The commands `ssl-zoo explore ...`: what features say about a set of images."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ssl_zoo.cli.options import adds
from ssl_zoo.errors import UserError

if TYPE_CHECKING:
    from ssl_zoo.explore.feature_files import FeatureTable
    from ssl_zoo.explore.found import FoundImages

_Command = TypeVar("_Command", bound=Callable[..., Any])
SHEET_IMAGES = 100
"""Images on a contact sheet at most."""

_writes = adds(
    click.option(
        "--output",
        "-o",
        metavar="FILE",
        help="File to write: .csv or .json; by default CSV is printed.",
    ),
    click.option(
        "--sheet",
        metavar="FILE.png",
        help=f"Contact sheet of the first {SHEET_IMAGES} images to write.",
    ),
)
_features = click.argument("features")


@click.group("explore")
def explore_command() -> None:
    """Finds similar, odd and diverse images by their features.

    All commands read a file of `ssl-zoo embed` and compare images by the cosine of their features.

    \b
    ssl-zoo embed runs/swav photos -o features.npz
    ssl-zoo explore duplicates features.npz
    """


@explore_command.command("duplicates", short_help="Groups of near-duplicates.")
@_features
@click.option(
    "--above",
    default=0.95,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True),
    help="Cosine from which on two images are near-duplicates.",
)
@_writes
def duplicates_command(features: str, above: float, output: str | None, sheet: str | None) -> None:
    """Finds groups of near-duplicates: images that are linked by high cosines.

    The rows of a group begin with its first image; drop the others to keep one of each. A good threshold
    depends on the network: look at the sheet.

    \b
    ssl-zoo explore duplicates features.npz --above 0.98 -o duplicates.csv --sheet duplicates.png
    """
    from ssl_zoo.explore.found import of_groups
    from ssl_zoo.explore.similarity import near_duplicates

    table = _read(features, output, sheet)
    groups = near_duplicates(table.values, above=above)
    found = of_groups(table, groups)
    n_images, n_groups = len(found.index), len(groups)
    told = f"{n_images} images in {n_groups} groups; without {n_images - n_groups}, one of each is left"
    _write(found, told, output, sheet)


@explore_command.command("outliers", short_help="Images that are far from all others.")
@_features
@click.option(
    "--k", default=10, show_default=True, type=click.IntRange(1), help="Neighbour to measure to."
)
@click.option(
    "--count", default=100, show_default=True, type=click.IntRange(1), help="Images to list."
)
@_writes
def outliers_command(
    features: str, k: int, count: int, output: str | None, sheet: str | None
) -> None:
    """Lists the images that are farthest from their k-th nearest neighbour.

    \b
    ssl-zoo explore outliers features.npz --count 20 --sheet outliers.png
    """
    from ssl_zoo.explore.found import of_ranking
    from ssl_zoo.explore.similarity import outliers

    table = _read(features, output, sheet)
    found = of_ranking(table, outliers(table.values, k=k), name="distance", most=count)
    _write(found, f"the {len(found.index)} images farthest from others", output, sheet)


@explore_command.command("subset", short_help="A diverse subset, such as images to label first.")
@_features
@click.option("--size", required=True, type=click.IntRange(1), help="Number of images.")
@_writes
def subset_command(features: str, size: int, output: str | None, sheet: str | None) -> None:
    """Chooses images such that every image is near to one of them, by greedy k-center.

    The first N of a larger subset are the subset of N.

    \b
    ssl-zoo explore subset features.npz --size 100 -o label_first.csv
    """
    from ssl_zoo.explore.found import of_ranking
    from ssl_zoo.explore.similarity import diverse_subset

    table = _read(features, output, sheet)
    found = of_ranking(table, diverse_subset(table.values, size=size), name="distance", most=None)
    _write(found, f"{len(found.index)} of {len(table.values)} images", output, sheet)


@explore_command.command("neighbours", short_help="The images most similar to one of them.")
@_features
@click.argument("image")
@click.option("--k", default=10, show_default=True, type=click.IntRange(1), help="Neighbours.")
@_writes
def neighbours_command(
    features: str, image: str, k: int, output: str | None, sheet: str | None
) -> None:
    """Lists the images that are most similar to IMAGE.

    IMAGE is a path as in the file of features, or the position of an image. On the sheet it stands
    before its neighbours.

    \b
    ssl-zoo explore neighbours features.npz cats/1.jpg --sheet neighbours.png
    """
    from ssl_zoo.explore.found import of_ranking, place_of
    from ssl_zoo.explore.similarity import neighbours

    table = _read(features, output, sheet)
    place = place_of(table, image)
    found = neighbours(table.values, place, k=k)
    listed = of_ranking(table, found, name="similarity", most=None)
    _write(listed, f"{len(listed.index)} neighbours of {image}", output, sheet, before=[place])


def _read(features: str, output: str | None, sheet: str | None) -> "FeatureTable":
    """Checks what is written, then reads the features."""
    from ssl_zoo.runs.places import check_place, output_file

    for path, suffixes in ((output, (".csv", ".json")), (sheet, (".png",))):
        if path is None:
            continue
        check_place(Path(path))
        if Path(path).suffix not in suffixes:
            raise UserError(
                f"the format of '{path}' is unknown; use a name that ends in {' or '.join(suffixes)}"
            )
        output_file(path)
    from ssl_zoo.evaluators.checks import check_values
    from ssl_zoo.explore.feature_files import read_features

    table = read_features(features)
    check_values("image", table.values)
    return table


def _write(
    found: "FoundImages",
    told: str,
    output: str | None,
    sheet: str | None,
    *,
    before: Sequence[int] = (),
) -> None:
    from ssl_zoo.cli.console import say

    if sheet is not None:
        found.save_sheet(Path(sheet), most=SHEET_IMAGES, before=before)
    if output is not None:
        found.save(Path(output))
        say(told)
    else:
        say(found.csv_text().rstrip("\n"))
    for path in (output, sheet):
        if path is not None:
            say(path, err=output is None)
