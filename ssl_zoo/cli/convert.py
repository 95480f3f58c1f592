"""The commands that convert checkpoints: `ssl-zoo import` and `ssl-zoo export`."""

from typing import Any

import click

from ssl_zoo.cli.options import FORMAT
from ssl_zoo.cli.outputs import read_hub, read_weights
from ssl_zoo.errors import UserError
from ssl_zoo.runs.places import output_file, output_folder
from ssl_zoo.weights.export_kinds import EXPORT_KINDS


@click.command("import")
@click.argument("file")
@click.option(
    "--output",
    "-o",
    required=True,
    metavar="OUT.safetensors",
    help="File to write, in the format of ssl-zoo.",
)
@FORMAT
def import_command(file: str, output: str, format: Any) -> None:
    """Converts a checkpoint of another project for ssl-zoo.

    FILE is a checkpoint of SwAV, DeepCluster-v2, MoCo, DINO, Barlow Twins, VICReg, MAE, VISSL,
    solo-learn or lightly, a state dict of torchvision or timm, or the name of published weights:
    torchvision:resnet50. Its format is recognised by the names of its weights, and is printed. No code
    in FILE is executed; a file that cannot be read without executing code is refused.

    \b
    ssl-zoo import swav_800ep_pretrain.pth.tar -o swav.safetensors
    ssl-zoo import resnet50-1x.pth -o simclr.safetensors --format simclr
    ssl-zoo import dino.pth -o student.safetensors --format dino:student
    ssl-zoo import mine.ckpt -o mine.safetensors --format prefixed:model.backbone.
    ssl-zoo list formats
    """
    target = output_file(output, replaces=read_weights)
    from ssl_zoo.weights.export import write
    from ssl_zoo.weights.open import open_checkpoint

    opened = open_checkpoint(file, format=format)
    if opened.facts.format is None:
        raise UserError(
            f"'{file}' is already in the format of ssl-zoo; see: ssl-zoo export --help"
        )
    write(opened, target, "safetensors")
    click.echo(target)


@click.command("export")
@click.argument("what")
@click.option(
    "--output", "-o", required=True, metavar="OUT", help="File to write; a folder for hub."
)
@click.option(
    "--as",
    "kind",
    type=click.Choice(EXPORT_KINDS),
    default="safetensors",
    show_default=True,
    help="Format to write.",
)
@FORMAT
def export_command(what: str, output: str, kind: Any, format: Any) -> None:
    """Exports the backbone of a checkpoint.

    WHAT is anything that `ssl-zoo evaluate` accepts. Prints how to load the exported file.

    \b
    safetensors   the format of ssl-zoo: weights, settings and provenance
    torchvision   a state dict with torchvision's names, for ResNets and vision transformers
    timm          a state dict with timm's names; OUT.pth or OUT.safetensors
    onnx          a graph for any batch size; needs: pip install 'ssl-zoo[onnx]'
    hub           a folder for torch.hub.load(OUT, "backbone", source="local")

    \b
    ssl-zoo export runs/swav -o backbone.safetensors
    ssl-zoo export runs/swav -o resnet50.pth --as torchvision
    ssl-zoo export runs/swav -o backbone.onnx --as onnx
    """
    if kind == "hub":
        target = output_folder(output, replaces=read_hub)
    else:
        ours = read_weights if kind == "safetensors" else None
        target = output_file(output, replaces=ours)
    from ssl_zoo.weights.export import write
    from ssl_zoo.weights.open import open_checkpoint

    how = write(open_checkpoint(what, format=format), target, kind)
    click.echo(f"{target}: {how}")
