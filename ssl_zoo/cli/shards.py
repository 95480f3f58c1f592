"""`ssl-zoo shards`."""

import click

from ssl_zoo.cli.options import is_override
from ssl_zoo.cli.outputs import read_shards
from ssl_zoo.errors import UserError
from ssl_zoo.runs.places import output_folder


@click.command("shards")
@click.argument("what", nargs=-1, required=True, metavar="FOLDER [data.KEY=VALUE]...")
@click.option("--output", "-o", required=True, metavar="DIR", help="Folder of the shards.")
@click.option(
    "--size",
    default="1GB",
    show_default=True,
    metavar="SIZE",
    help="Largest size of a shard, such as 500MB.",
)
@click.option(
    "--images",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of images of a shard, instead of a size.",
)
@click.option("--overwrite", is_flag=True, help="Replace shards of other images or sizes.")
def shards_command(
    what: tuple[str, ...], output: str, size: str, images: int | None, overwrite: bool
) -> None:
    """Writes images into a few large tar files.

    FOLDER is a folder of images, or a table of image files. The bytes and names of images are kept, and
    classes too. Each shard has an index beside it, so that data=DIR reads any image without the others, and
    a run shuffles and resumes as exactly as with files. webdataset reads the shards as well. The same
    command continues where a killed one stopped.

    \b
    ssl-zoo shards photos -o tars
    ssl-zoo shards photos -o tars --size 250MB data.labels=none
    ssl-zoo train simclr data=tars
    """
    target = output_folder(output, replaces=read_shards)
    from ssl_zoo.cli.console import say
    from ssl_zoo.config import apply_overrides
    from ssl_zoo.data.base import DATASETS
    from ssl_zoo.data.shard_writing import parts_of, size_in_bytes, write_shards
    from ssl_zoo.evaluation.bar import progress_bar

    overrides = [each for each in what if is_override(each)]
    names = [each for each in what if each not in overrides]
    if len(names) != 1:
        raise UserError(f"shards takes one folder of images, but {len(names)} are given")
    limit = size_in_bytes(size)
    settings = apply_overrides({"data": dict(DATASETS.expand(names[0]))}, overrides)["data"]
    parts = parts_of(settings, size=limit, images=images)
    with progress_bar("images", sum(len(part.order) for part in parts)) as advance:
        done = write_shards(parts, target, overwrite=overwrite, advance=advance)
    classes = f", {done.n_classes:,} classes" if done.n_classes else ""
    kept = f", {done.n_kept:,} of them complete before" if done.n_kept else ""
    say(f"{done.n_images:,} images{classes}, {done.n_shards:,} shards{kept}\n{target}")
