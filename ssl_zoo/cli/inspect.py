"""`ssl-zoo inspect`."""

import json
from dataclasses import asdict

import click

from ssl_zoo.cli.options import is_override
from ssl_zoo.errors import UserError


@click.command("inspect")
@click.argument("what", nargs=-1, required=True, metavar="DATA [data.KEY=VALUE]...")
@click.option("--json", "as_json", is_flag=True, help="Print every finding as JSON.")
def inspect_command(what: tuple[str, ...], as_json: bool) -> None:
    """Finds what is wrong with images, before training.

    DATA is a folder, a table of image files, or the name of a data set. Prints one line for each kind of
    problem: images that cannot be read, are tiny, huge, dark, blank, blurred or repeated, and test images
    that are also training images. Reads every image once.

    \b
    ssl-zoo inspect photos
    ssl-zoo inspect photos --json > findings.json
    ssl-zoo inspect image_folder data.root=photos data.test=val
    """
    from ssl_zoo.cli.console import say
    from ssl_zoo.config import apply_overrides
    from ssl_zoo.data.base import DATASETS
    from ssl_zoo.data.inspection import inspect_images
    from ssl_zoo.evaluation.bar import progress_bar

    overrides = [each for each in what if is_override(each)]
    names = [each for each in what if each not in overrides]
    if len(names) != 1:
        raise UserError(f"inspect takes one data set, but {len(names)} are given")
    settings = apply_overrides({"data": dict(DATASETS.expand(names[0]))}, overrides)["data"]
    train, test = (DATASETS.build(settings, split=split) for split in ("train", "test"))
    apart = test.listing != train.listing
    with progress_bar("images", len(train) + apart * len(test)) as advance:
        found = inspect_images(train, test if apart else None, advance=advance)
    if as_json:
        listed = [asdict(one) for one in found.findings]
        click.echo(json.dumps({"n_images": found.n_images, "findings": listed}, indent=1))
        return
    for line in found.lines():
        say(line)
    say(f"{found.n_images:,} images, {len(found.findings):,} findings")
