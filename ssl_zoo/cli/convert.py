"""The commands that take checkpoints in and give them out: `ssl-zoo import` and `export`."""

from pathlib import Path
from typing import Any

import click

from ssl_zoo.cli.options import FORMAT, output_file
from ssl_zoo.errors import UserError
from ssl_zoo.weights.export_kinds import EXPORT_KINDS


@click.command("import")
@click.argument("file")
@click.option(
    "--output", "-o", required=True, metavar="OUT.safetensors", help="File in our format."
)
@FORMAT
def import_command(file: str, output: str, format: Any) -> None:
    """Turns a checkpoint of another project into a file of ours.

    FILE is what SwAV, DeepCluster-v2, MoCo, DINO, Barlow Twins, VICReg, MAE, VISSL, solo-learn or
    lightly wrote, a state dict of torchvision or timm, or published weights: torchvision:resnet50.
    Its format is recognised by the names of its weights, and said. Nothing in FILE is run: one
    that needs code to be read is refused.

    \b
    ssl-zoo import swav_800ep_pretrain.pth.tar -o swav.safetensors
    ssl-zoo import resnet50-1x.pth -o simclr.safetensors --format simclr
    ssl-zoo import dino.pth -o student.safetensors --format dino:student
    ssl-zoo import mine.ckpt -o mine.safetensors --format prefixed:model.backbone.
    ssl-zoo list formats
    """
    target = output_file(output)
    from ssl_zoo.weights.export import write
    from ssl_zoo.weights.open import open_checkpoint

    opened = open_checkpoint(file, format=format)
    if opened.facts.format is None:
        raise UserError(f"'{file}' is in our own format already; see: ssl-zoo export --help")
    write(opened, target, "safetensors")
    click.echo(target)


@click.command("export")
@click.argument("what")
@click.option("--output", "-o", required=True, metavar="OUT", help="File, or folder for hub.")
@click.option(
    "--as",
    "kind",
    type=click.Choice(EXPORT_KINDS),
    default="safetensors",
    show_default=True,
    help="What is written.",
)
@FORMAT
def export_command(what: str, output: str, kind: Any, format: Any) -> None:
    """Writes the backbone of a checkpoint for others to use.

    WHAT is whatever `ssl-zoo evaluate` scores. Prints how to load what was written.

    \b
    safetensors   our format: weights, settings and where they come from
    torchvision   a state dict in torchvision's names, for ResNets and vision transformers
    timm          the same in timm's names; OUT.pth or OUT.safetensors
    onnx          a graph with any batch size; needs: pip install 'ssl-zoo[onnx]'
    hub           a folder for torch.hub.load(OUT, "backbone", source="local")

    \b
    ssl-zoo export runs/swav -o backbone.safetensors
    ssl-zoo export runs/swav -o resnet50.pth --as torchvision
    ssl-zoo export runs/swav -o backbone.onnx --as onnx
    """
    target = Path(output) if kind == "hub" else output_file(output)
    from ssl_zoo.weights.export import write
    from ssl_zoo.weights.open import open_checkpoint

    how = write(open_checkpoint(what, format=format), target, kind)
    click.echo(f"{target}: {how}")
