"""Arguments and options shared by several commands."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ssl_zoo.cli import completion
from ssl_zoo.errors import UserError

if TYPE_CHECKING:
    from ssl_zoo.evaluation.config import FeatureConfig
    from ssl_zoo.runs.config import RunConfig

RequestT = TypeVar("RequestT", bound="FeatureConfig")

METHOD = click.argument(
    "method", required=False, metavar="[METHOD[@RECIPE]]", shell_complete=completion.methods
)
OVERRIDES = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
CONFIG = click.option(
    "--config",
    "file",
    help="YAML file to use instead of a recipe.",
    metavar="FILE",
    shell_complete=completion.files,
)


def _load_plugins(ctx: click.Context, param: click.Parameter, files: tuple[str, ...]) -> None:
    if files and not ctx.resilient_parsing:  # completion runs nothing
        from ssl_zoo.plugins import load_file

        for file in files:
            load_file(file)


def takes_plugins(command: click.Command) -> click.Command:
    """Adds `--plugin FILE.py` to a command; the files are loaded before the command runs."""
    command.params.append(
        click.Option(
            ["--plugin", "_plugins"],
            multiple=True,
            metavar="FILE.py",
            is_eager=True,
            expose_value=False,
            callback=_load_plugins,
            shell_complete=completion.files,
            help="Python file that registers a method or other components; can be repeated.",
        )
    )
    return command


def resolved(method: str | None, overrides: tuple[str, ...], file: str | None) -> "RunConfig":
    """Returns the run described by the arguments; errors are the same on all ranks."""
    from ssl_zoo.method import METHODS
    from ssl_zoo.runs.config import run_config
    from ssl_zoo.runs.recipes import PHOTOS_RECIPE, recipe_for

    if method is not None and "=" in method:  # `ssl-zoo train --config FILE seed=3`
        return resolved(None, (method, *overrides), file)
    try:
        if method in METHODS and file is None and recipe_for(overrides) == PHOTOS_RECIPE:
            return _planned(str(method), overrides)
        return run_config(method, file=file, overrides=overrides)
    except UserError as error:
        error.on_all_ranks = True  # all ranks have the same arguments
        raise


def _planned(method: str, overrides: tuple[str, ...]) -> "RunConfig":
    """Returns the settings of a method on image files, planned without timing."""
    import logging

    from ssl_zoo.planning.plan import plan_run
    from ssl_zoo.runs.recipes import data_of

    data = data_of(overrides)
    assert data is not None
    others = [text for text in overrides if text.partition("=")[0].strip() != "data"]
    found = plan_run(data, method, budget=None, overrides=others)
    logging.getLogger(__name__).info(
        "%s\n  planned from %s; to fit a budget of time: ssl-zoo plan %s %s --budget 1h",
        found.summary(), found.recipe, data, method,
    )  # fmt: skip
    return found.config


class _Evaluators(click.ParamType):  # type: ignore[type-arg]
    """Names or settings of evaluators, separated by commas."""

    name = "evaluators"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if not isinstance(value, str):
            return value
        from ssl_zoo.config import parse_yaml

        parts = [part.strip() for part in _split(value)]
        source = "--evaluators"
        return [
            parse_yaml(part, source=source) if part.startswith("{") else part
            for part in parts
            if part
        ]


def _split(text: str) -> list[str]:
    """Splits at commas outside braces and brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "{[") - (letter in "}]")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


class _Megabytes(click.ParamType):  # type: ignore[type-arg]
    """A size such as 2GB, 500MB, or 500 for megabytes."""

    name = "size"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*(MB|GB)?", str(value), re.IGNORECASE)
        size = float(found[1]) * (1000 if (found[2] or "").upper() == "GB" else 1) if found else 0
        if size < 1:
            raise UserError(f"'{value}' is not a size; write 500MB or 2GB")
        return int(size)


class _Settings(click.ParamType):  # type: ignore[type-arg]
    """A component's name, or its settings in braces."""

    name = "settings"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if not isinstance(value, str) or not value.startswith("{"):
            return value
        from ssl_zoo.config import parse_yaml

        return parse_yaml(value, source="--format")


FORMAT = click.option(
    "--format",
    type=_Settings(),
    metavar="NAME",
    shell_complete=completion.formats,
    help="Format of a file of another project, if not recognised; see: ssl-zoo list formats.",
)


EVALUATORS = click.option(
    "--evaluators",
    show_default="knn,clustering",
    type=_Evaluators(),
    metavar="A,B",
    shell_complete=completion.evaluators,
    help="Evaluators: knn, knn:instdisc, '{name: knn, k: [1, 5]}'; see: ssl-zoo list evaluators.",
)


# None means the value in the file of --config, otherwise the default of the request.
_REQUEST = (
    click.option(
        "--config", "file", metavar="FILE", help="YAML file of a request; options take precedence."
    ),
    FORMAT,
)
_IMAGE_SIZE = click.option(
    "--image-size",
    type=click.IntRange(2),
    metavar="PIXELS",
    help="Height and width of the images.",
)
_COSTS = (
    click.option("--batch-size", show_default="256", type=click.IntRange(1)),
    click.option(
        "--workers",
        "num_workers",
        show_default="one for each core",
        type=click.IntRange(0),
        help="Loader processes per rank, for image files.",
    ),
    click.option(
        "--seed",
        show_default="0",
        type=click.IntRange(0, 2**31 - 1),
        help="Seed of clustering, random draws and intervals.",
    ),
)
_FEATURES = (
    *_REQUEST,
    click.option("--layer", show_default="pooled", help="Layer that features are taken from."),
    _IMAGE_SIZE,
    click.option(
        "--precision",
        type=click.Choice(["fp32", "bf16", "fp16"]),
        show_default="fp32",
        help="Precision of the network's arithmetic.",
    ),
    *_COSTS,
)


_SCORES = (
    click.option(
        "--dataset",
        "data",
        metavar="NAME",
        shell_complete=completion.datasets,
        help="Data set; by default that of training. Short for data=NAME.",
    ),
    EVALUATORS,
    *_FEATURES,
    click.option(
        "--memory-budget",
        "memory_mb",
        type=_Megabytes(),
        metavar="SIZE",
        help="Memory for neighbours and rankings, in addition to the features, such as 2GB.",
    ),
)


CACHE = (
    click.option("--cache", metavar="DIR", help="Folder in which features are cached."),
    click.option("--no-cache", is_flag=True, help="Keep features in memory only."),
)


_Command = TypeVar("_Command", bound=Callable[..., Any])


def adds(*options: Any) -> Callable[[_Command], _Command]:
    """Returns a decorator that adds options to a command, in the given order."""

    def add(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


how_a_network_is_used = adds(*_REQUEST, _IMAGE_SIZE, *_COSTS)
"""Adds the options of a request that uses the network as a whole."""


how_features_are_computed = adds(*_FEATURES)
"""Adds the options for the layer and the view of images."""


how_features_are_taken = adds(*_FEATURES, *CACHE)
"""Adds the options for the data, the view of images, and the feature cache."""


how_it_is_scored = adds(*_SCORES)
"""Adds the options of an evaluation, which are fields of `EvaluationConfig`."""


def with_cache(config: RequestT, no_cache: bool) -> RequestT:
    """Returns a request that caches features, unless it sets a cache or `--no-cache` is given."""
    from ssl_zoo.evaluation.cache import cache_folder

    if no_cache:
        return config.model_copy(update={"cache": None})
    return config if config.cache else config.model_copy(update={"cache": str(cache_folder())})


def is_override(text: str) -> bool:
    """Returns whether an argument is `KEY=VALUE` and not an existing file."""
    return re.match(r"[A-Za-z_][\w.]*=", text) is not None and not Path(text).exists()


def data_and_overrides(arguments: tuple[str, ...]) -> tuple[str | None, list[str]]:
    """Returns a folder or the name of a data set, if one is given, and overrides.

    Raises:
        UserError: there are several.
    """
    overrides = [each for each in arguments if is_override(each)]
    data = [each for each in arguments if not is_override(each)]
    if len(data) > 1:
        raise UserError(f"one folder or data set is expected, not {len(data)}: {', '.join(data)}")
    return (data[0] if data else None), overrides
