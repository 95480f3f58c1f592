"""Recipes: the settings of a method for one data set, in YAML files beside the method."""

import importlib.resources
from typing import Any

from ssl_zoo.config import (
    closest,
    parse_yaml,
)
from ssl_zoo.errors import UserError
from ssl_zoo.method import METHODS

DEFAULT_RECIPE = "digits"


def recipe_names(method: str) -> list[str]:
    """Returns the recipes that a method's folder holds."""
    METHODS[method]
    folder = _recipe_folder(method)
    return (
        sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".yaml"))
        if folder
        else []
    )


def recipe_text(method: str, recipe: str) -> str:
    """Returns the YAML of `method@recipe` with its comments.

    Raises:
        UserError: there is no such method or recipe.
    """
    names = recipe_names(method)
    if recipe not in names:
        raise UserError(
            f"method '{method}' has no recipe '{recipe}'.{closest(recipe, names)} "
            f"Known: {', '.join(names) or 'none'}"
        )
    folder = _recipe_folder(method)
    assert folder is not None
    text: str = (folder / f"{recipe}.yaml").read_text(encoding="utf-8")
    return text


def read_recipe(method: str, recipe: str) -> dict[str, Any]:
    """Returns the settings of `method@recipe`.

    Raises:
        UserError: there is no such method or recipe.
    """
    return parse_yaml(recipe_text(method, recipe), source=f"{method}@{recipe}")


def _recipe_folder(method: str) -> Any:
    """Returns the `recipes` folder beside the module that defines a method, or None."""
    package = METHODS[method].__module__.rpartition(".")[0]
    if not package:
        return None
    folder = importlib.resources.files(package) / "recipes"
    return folder if folder.is_dir() else None
