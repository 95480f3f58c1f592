"""The commands that say what there is: `ssl-zoo list`, `show` and `schema`."""

import difflib
import json
from typing import Any

import click

from ssl_zoo.errors import UserError

KIND_NAMES = (
    "methods",
    "backbones",
    "heads",
    "augmentations",
    "datasets",
    "optimizers",
    "evaluators",
    "formats",
)


class _Kind(click.ParamType):  # type: ignore[type-arg]
    """A kind of component, singular or plural."""

    name = "kind"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        for kind in KIND_NAMES:
            if value in (kind, kind[:-1]):
                return kind
        near = difflib.get_close_matches(value, KIND_NAMES, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise UserError(f"unknown kind '{value}'.{hint} Known: {', '.join(KIND_NAMES)}")


@click.command("list")
@click.argument("kind", type=_Kind(), required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_command(kind: str | None, as_json: bool) -> None:
    """Lists the components that can be named, of one KIND or of all.

    KIND is methods, backbones, heads, augmentations, datasets, optimizers, evaluators or formats.
    """
    from ssl_zoo import plugins
    from ssl_zoo.report.describe import listing

    plugins.discover()
    kinds = [kind] if kind else list(KIND_NAMES)
    found = {each: listing(each) for each in kinds}
    if as_json:
        click.echo(json.dumps({**found, "broken_plugins": plugins.failure_lines()}, indent=1))
        return
    from ssl_zoo.cli.console import show
    from ssl_zoo.report.component_text import listing_table

    for position, (each, rows) in enumerate(found.items()):
        if position:
            click.echo()
        show(listing_table(each, rows))


@click.command("show")
@click.argument("kind", type=_Kind())
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show_command(kind: str, name: str, as_json: bool) -> None:
    """Shows one component and each of its settings.

    \b
    ssl-zoo show method swav
    ssl-zoo show backbone resnet50
    ssl-zoo show backbone timm:vit_small_patch16_224
    """
    from ssl_zoo.cli.console import prose_width, show
    from ssl_zoo.report.component_text import component_text
    from ssl_zoo.report.describe import details

    found = details(kind, name)
    if as_json:
        click.echo(json.dumps(found, indent=1))
    else:
        show(component_text(found, width=prose_width()))


@click.command("schema")
def schema_command() -> None:
    """Prints the JSON schema of a run.

    Editors complete and check YAML by it:

    \b
    ssl-zoo schema > run.schema.json
    """
    from ssl_zoo.runs.config import RunConfig

    click.echo(json.dumps(RunConfig.model_json_schema(), indent=1))
