"""`ssl-zoo plan`."""

from pathlib import Path

import click

from ssl_zoo.cli.options import is_override
from ssl_zoo.errors import UserError
from ssl_zoo.runs.places import output_file


@click.command("plan")
@click.argument("what", nargs=-1, required=True, metavar="FOLDER [METHOD] [KEY=VALUE]...")
@click.option(
    "--budget",
    default="1h",
    show_default=True,
    metavar="TIME",
    help="Time that training may take on this machine: 45min, 2h, 1d.",
)
@click.option("--output", "-o", metavar="FILE", help="Write the plan to FILE; printed otherwise.")
def plan_command(what: tuple[str, ...], budget: str, output: str | None) -> None:
    """Plans a training run for your own images.

    Looks at the images in FOLDER and at this machine, times a few real steps, and writes all settings
    of a run that fits the budget, each choice with its reason in a comment. FOLDER may also be a table
    of image files (.csv, .tsv, .parquet). KEY=VALUE fixes settings that the plan then leaves alone.

    \b
    ssl-zoo plan photos -o plan.yaml
    ssl-zoo plan photos swav --budget 2h -o plan.yaml
    ssl-zoo plan photos byol --budget 45min data.labels=none augmentation.crops.0.size=96
    ssl-zoo train --config plan.yaml
    """
    from ssl_zoo.cli.console import say
    from ssl_zoo.files import write_text
    from ssl_zoo.planning.plan import plan_run

    overrides = [each for each in what if is_override(each)]
    names = [each for each in what if each not in overrides]
    if not 1 <= len(names) <= 2:
        raise UserError(
            f"plan takes a folder and a method, but {len(names)} names are given; see: ssl-zoo plan --help"
        )
    if output is not None:
        output_file(output)
    method = names[1] if len(names) == 2 else None
    found = plan_run(names[0], method, budget=budget, overrides=overrides)
    if output is None:
        say(found.text().rstrip("\n"))
        return
    write_text(Path(output), found.text())
    say(found.summary(), err=True)
    say(f"next: ssl-zoo train --config {output}", err=True)
    click.echo(output)
