"""Recipes: settings of a method for one data set, in YAML files in the method's folder.

Methods without recipes use the generic ones in `ssl_zoo/runs/generic`: data, backbone, augmentation and
optimizer without settings of any method.
"""

import importlib.resources
import logging
from collections.abc import Iterable
from typing import Any

from ssl_zoo.config import closest, parse_override, parse_yaml
from ssl_zoo.data.base import DATASETS
from ssl_zoo.errors import UserError
from ssl_zoo.method import METHODS

logger = logging.getLogger(__name__)

DEFAULT_RECIPE = "digits"
PHOTOS_RECIPE = "photos"
"""Recipe for folders of images."""


def recipe_for(overrides: Iterable[str]) -> str:
    """Returns the recipe of a method that is given without one: `photos` if the data are image files."""
    data = data_of(overrides)
    if not isinstance(data, str):
        return DEFAULT_RECIPE
    name = data.partition(":")[0]
    return DEFAULT_RECIPE if name in DATASETS and DATASETS[name].in_memory else PHOTOS_RECIPE


def data_of(overrides: Iterable[str]) -> Any:
    """Returns the value of the last override such as `data=photos`; None without one."""
    given = [text for text in overrides if text.partition("=")[0].strip() == "data"]
    return parse_override(given[-1])[1] if given else None


def recipe_names(method: str) -> list[str]:
    """Returns the recipes in a method's folder."""
    METHODS[method]
    return _names(_recipe_folder(method))


def generic_names() -> list[str]:
    """Returns the recipes for methods without recipes of their own."""
    return _names(_generic_folder())


def recipe_text(method: str, recipe: str) -> str:
    """Returns the YAML of `method@recipe`, with comments; generic recipes do not name a method.

    Raises:
        UserError: the method or recipe does not exist.
    """
    own = recipe_names(method)
    names = own or generic_names()
    if recipe not in names:
        whose = "" if own else " and can use the generic ones"
        raise UserError(
            f"method '{method}' has no recipe '{recipe}'{whose}.{closest(recipe, names)} "
            f"Known: {', '.join(names)}"
        )
    folder = _recipe_folder(method) if own else _generic_folder()
    text: str = (folder / f"{recipe}.yaml").read_text(encoding="utf-8")
    return text


def read_recipe(method: str, recipe: str) -> dict[str, Any]:
    """Returns the settings of `method@recipe`.

    Raises:
        UserError: the method or recipe does not exist.
    """
    settings = parse_yaml(recipe_text(method, recipe), source=f"{method}@{recipe}")
    if recipe_names(method):
        return settings
    logger.info(
        "method '%s' has no recipes of its own; using the generic recipe '%s'", method, recipe
    )
    return {"method": method, **settings}


def _names(folder: Any) -> list[str]:
    entries = folder.iterdir() if folder is not None else ()
    return sorted(entry.name[:-5] for entry in entries if entry.name.endswith(".yaml"))


def _generic_folder() -> Any:
    return importlib.resources.files("ssl_zoo.runs") / "generic"


def _recipe_folder(method: str) -> Any:
    """Returns the `recipes` folder next to the module that defines a method, or None."""
    package = METHODS[method].__module__.rpartition(".")[0]
    if not package:
        return None
    folder = importlib.resources.files(package) / "recipes"
    return folder if folder.is_dir() else None
