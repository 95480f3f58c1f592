"""`ssl-zoo card`."""

import sys
from pathlib import Path

import click

from ssl_zoo.cli.options import is_override
from ssl_zoo.errors import UserError


@click.command("card")
@click.argument("what", nargs=-1, required=True, metavar="RUN|CARD [data.KEY=VALUE]...")
@click.option(
    "--output",
    "-o",
    default="model_cards",
    show_default=True,
    metavar="DIR",
    help="Folder to write the card to.",
)
@click.option("--name", help="Name of the card; METHOD_BACKBONE_DATA_EPOCHSep by default.")
@click.option(
    "--verify",
    is_flag=True,
    help="Measure the scores of a CARD again; exit with 1 if any differs.",
)
@click.option(
    "--push",
    metavar="hf:USER/NAME",
    help="Upload the card and its weights to the Hugging Face Hub.",
)
def card_command(
    what: tuple[str, ...], output: str, name: str | None, verify: bool, push: str | None
) -> None:
    """Writes the model card, the weights and the settings of a finished RUN.

    The scores on the card are measured by this command. CARD is the name of a card that comes with
    ssl-zoo, its file, or hf:USER/NAME. With --verify, its weights are compared with the SHA-256 on the
    card, and kNN scores may differ by 1 point and clustering scores by 5. --push takes a RUN or a CARD.

    \b
    ssl-zoo card runs/swav
    ssl-zoo card --verify swav_tiny_resnet_digits_affine_30ep
    ssl-zoo card --verify model_cards/mine.md data.root=photos
    ssl-zoo card model_cards/mine.md --push hf:USER/NAME
    """
    from ssl_zoo.report.card import write_card
    from ssl_zoo.report.card_check import card_and_weights

    settings = [each for each in what if is_override(each)]
    names = [each for each in what if each not in settings]
    if len(names) != 1:
        raise UserError(
            f"card takes one RUN or CARD, but {len(names)} are given; see: ssl-zoo card --help"
        )
    if verify:
        if push is not None or name is not None:
            raise UserError("--verify writes nothing; leave --push and --name out")
        _verify(names[0], settings)
        return
    if settings:
        raise UserError(f"{settings[0]} is for --verify; a run already has its settings")
    if (Path(names[0]) / "config.yaml").is_file() or push is None:
        card = write_card(names[0], Path(output), name=name)
        click.echo(card)
    else:
        card, _ = card_and_weights(names[0])
    if push is not None:
        from ssl_zoo.weights.hub import push_hub

        click.echo(push_hub(push, card))


def _verify(card: str, settings: list[str]) -> None:
    from ssl_zoo.cli.console import say
    from ssl_zoo.config import apply_overrides
    from ssl_zoo.report.card_check import verify_card

    other = [each for each in settings if not each.startswith("data.")]
    if other:
        raise UserError(f"{other[0]} is no field of the data; --verify takes data.KEY=VALUE")
    found = verify_card(card, apply_overrides({"data": {}}, settings)["data"])
    for one in found:
        say(one.line)
    if not all(one.agrees for one in found):
        sys.exit(1)
