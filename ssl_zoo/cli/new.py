"""`ssl-zoo new`: package templates."""

import importlib.resources
import keyword
import re
from pathlib import Path
from string import Template

import click

from ssl_zoo.errors import UserError
from ssl_zoo.runs.places import check_place

FILES = {
    "pyproject.toml": "pyproject.toml",
    "setup.cfg": "setup.cfg",
    "README.md": "README.md",
    "ssl_zoo_{name}/__init__.py": "init.py",
    "ssl_zoo_{name}/method.py": "method.py",
    "ssl_zoo_{name}/recipes/digits.yaml": "digits.yaml",
    "tests/test_{name}.py": "test_method.py",
}
"""Files of a package, and their templates in `new_method/`."""


@click.group("new", short_help="Writes a package from a template.")
def new_command() -> None:
    """Writes a package from a template.

    \b
    ssl-zoo new method mine
    """


@new_command.command("method", short_help="A package with a method.")
@click.argument("name")
@click.option("--output", "-o", metavar="DIR", help="New or empty folder; by default NAME.")
def new_method_command(name: str, output: str | None) -> None:
    """Writes a package with a method that can be trained right away: class, recipe, test, setup, README.

    NAME is the name of the method: lower-case letters, digits and underscores. Existing files are never
    overwritten.

    \b
    ssl-zoo new method mine
    pip install -e mine
    ssl-zoo train mine
    """
    folder = Path(output if output is not None else name)
    _check_name(name)
    _check_folder(folder)
    fields = {
        "name": name,
        "dashed": name.replace("_", "-"),
        "cls": "".join(part.capitalize() for part in name.split("_")),
        "title": name.replace("_", " ").capitalize(),
    }
    templates = importlib.resources.files("ssl_zoo.cli") / "new_method"
    for place, template in FILES.items():
        path = folder / place.format(name=name)
        text = (templates / f"{template}.txt").read_text(encoding="utf-8")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(Template(text).substitute(fields))
    click.echo(folder)
    click.echo(f"ssl-zoo: next: pip install -e {folder}; ssl-zoo train {name}", err=True)


def _check_name(name: str) -> None:
    """Raises `UserError` if a method cannot have this name."""
    from ssl_zoo.method import METHODS

    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or keyword.iskeyword(name):
        raise UserError(
            f"'{name}' cannot be the name of a method; use lower-case letters, digits and single "
            "underscores, as in 'my_method'"
        )
    if name in METHODS:
        owner = METHODS[name].__module__
        raise UserError(f"a method '{name}' already exists, in {owner}; choose another name")


def _check_folder(folder: Path) -> None:
    """Raises `UserError` if files would be overwritten."""
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise UserError(f"'{folder}' exists and is not an empty folder; choose another --output")
    check_place(folder)
