"""The commands that describe components: `ssl-zoo list`, `show` and `schema`."""

import difflib
import json
from typing import TYPE_CHECKING, Any

import click

from ssl_zoo.cli import completion
from ssl_zoo.cli.completion import singular
from ssl_zoo.errors import UserError
from ssl_zoo.plugins import KINDS

if TYPE_CHECKING:
    from ssl_zoo.config import Config


class _Kind(click.ParamType):  # type: ignore[type-arg]
    """A kind of component, singular or plural."""

    name = "kind"

    def __init__(self, *more: str) -> None:
        self.words = (*KINDS, *more)

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        for kind in self.words:
            if value in (kind, singular(kind)):
                return kind
        near = difflib.get_close_matches(value, self.words, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise UserError(f"unknown kind '{value}'.{hint} Known: {', '.join(self.words)}")


@click.command("list")
@click.argument(
    "kind", type=_Kind(*completion.MORE_LISTS), required=False, shell_complete=completion.kinds
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_command(kind: str | None, as_json: bool) -> None:
    """Lists the available components of one KIND, or of all kinds.

    KIND is methods, backbones, heads, augmentations, datasets, optimizers, evaluators, formats or
    trackers; or recipes; or models, the weights that come with ssl-zoo, are in
    the folder model_cards, or were downloaded from the Hub.

    \b
    ssl-zoo list methods
    ssl-zoo list recipes
    """
    from ssl_zoo import plugins
    from ssl_zoo.report import describe

    plugins.discover()
    if kind == "recipes":
        _list_recipes(describe.recipe_rows(), as_json)
        return
    if kind == "models":
        _list_models(describe.model_rows(), as_json)
        return
    found = {each: describe.listing(each) for each in ([kind] if kind else KINDS)}
    if as_json:
        click.echo(json.dumps({**found, "broken_plugins": plugins.failure_lines()}, indent=1))
        return
    from ssl_zoo.cli.console import show
    from ssl_zoo.report.component_text import listing_table

    for position, (each, rows) in enumerate(found.items()):
        if position:
            click.echo()
        show(listing_table(each, rows))


def _list_recipes(rows: list[dict[str, Any]], as_json: bool) -> None:
    from ssl_zoo.cli.console import show
    from ssl_zoo.report.component_text import recipe_table

    if as_json:
        click.echo(json.dumps({"recipes": rows}, indent=1))
    else:
        show(recipe_table(rows))


def _list_models(rows: list[dict[str, Any]], as_json: bool) -> None:
    from ssl_zoo.cli.console import show
    from ssl_zoo.report.component_text import model_table
    from ssl_zoo.report.describe import OTHER_WEIGHTS

    if as_json:
        click.echo(json.dumps({"models": rows, "other_weights": OTHER_WEIGHTS}, indent=1))
    else:
        show(model_table(rows, OTHER_WEIGHTS))


@click.command("show")
@click.argument("kind", type=_Kind(), shell_complete=completion.kinds)
@click.argument("name", shell_complete=completion.named)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show_command(kind: str, name: str, as_json: bool) -> None:
    """Shows a component and its settings.

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
@click.argument(
    "kind",
    type=click.Choice(["run", "evaluation", "cluster", "embed", "classify", "scoring"]),
    default="run",
    metavar="[run|evaluation|cluster|embed|classify|scoring]",
)
def schema_command(kind: str) -> None:
    """Prints the JSON schema of a run or of another request.

    The schema of evaluation describes files for evaluate --config, those of cluster, embed and classify
    files for these commands, and that of scoring those for submit evaluate. Editors use a schema to
    complete and check YAML:

    \b
    ssl-zoo schema > run.schema.json
    ssl-zoo schema evaluation > evaluation.schema.json
    """
    from ssl_zoo.evaluation.config import EvaluationConfig, ScoringConfig
    from ssl_zoo.explore.config import ClassifyConfig, ClusterConfig, EmbedConfig
    from ssl_zoo.runs.config import RunConfig

    models: dict[str, type[Config]] = {
        "run": RunConfig,
        "evaluation": EvaluationConfig,
        "cluster": ClusterConfig,
        "embed": EmbedConfig,
        "classify": ClassifyConfig,
        "scoring": ScoringConfig,
    }
    click.echo(json.dumps(models[kind].model_json_schema(), indent=1))
