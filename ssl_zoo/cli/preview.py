"""The command `ssl-zoo preview`."""

from pathlib import Path

import click

from ssl_zoo.cli.options import CONFIG, METHOD, data_and_overrides, resolved
from ssl_zoo.errors import UserError


@click.command("preview")
@METHOD
@click.argument("rest", nargs=-1, metavar="[FOLDER] [KEY=VALUE]...")
@CONFIG
@click.option("--output", "-o", required=True, metavar="FILE.png", help="Image file to write.")
@click.option(
    "--images",
    "n_images",
    default=8,
    show_default=True,
    type=click.IntRange(1, 256),
    help="Images to show; at most those of a batch.",
)
def preview_command(
    method: str | None, rest: tuple[str, ...], file: str | None, output: str, n_images: int
) -> None:
    """Shows the views that training will see.

    The arguments are those of `ssl-zoo train`; FOLDER is a folder or table of images,
    short for data=FOLDER. The sheet has one row for each of the first images of the first batch:
    the original, every view with its size in pixels, and what is masked if the method masks patches. A
    training with these settings sees exactly these pixels.

    \b
    ssl-zoo preview swav -o views.png
    ssl-zoo preview swav@imagenet-bs256-200ep photos global_batch_size=64 -o views.png
    ssl-zoo preview mae augmentation.mask.ratio=0.5 -o views.png
    ssl-zoo preview --config runs/swav/config.yaml -o views.png
    """
    from ssl_zoo.runs.places import check_place, output_file
    from ssl_zoo.training.preview import preview, read_preview

    check_place(Path(output))
    if Path(output).suffix.lower() != ".png":
        raise UserError(f"the format of '{output}' is unknown; use a name that ends in .png")
    target = output_file(output, replaces=read_preview)
    if method is not None and (file is not None or "=" in method):
        rest, method = (method, *rest), None
    folder, overrides = data_and_overrides(rest)
    config = resolved(method, (*([f"data={folder}"] if folder else []), *overrides), file)
    counts = preview(config, target, n_images=n_images)
    views = ", ".join(f"{count} of {size} pixels" for size, count in counts.items())
    click.echo(f"views of each image: {views}\n{target}")
