"""Names for shell completion, read from source files because importing them takes seconds."""

import ast
import importlib.metadata
import importlib.util
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from ssl_zoo.plugins import GROUP, KINDS, METHODS_PACKAGE

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
MORE_LISTS = ("recipes", "models")
"""What `ssl-zoo list` accepts in addition to the kinds of components."""


def kinds(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Completes a kind of component, in the plural or singular."""
    words = [*KINDS, *(MORE_LISTS if ctx.info_name == "list" else ())]
    return _starting(incomplete, [*words, *map(singular, KINDS)] if incomplete else words)


def methods(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Completes METHOD, and METHOD@RECIPE after an `@`."""
    name, at, _ = incomplete.partition("@")
    if not at:
        return _starting(incomplete, names("methods"))
    return _starting(incomplete, [f"{name}@{recipe}" for recipe in recipes(name)])


def named(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Completes the name of a component of the preceding kind."""
    kind = str(ctx.params.get("kind") or "")
    return _starting(incomplete, names(kind)) if kind in KINDS else []


def evaluators(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Completes the last of several comma-separated evaluators."""
    before, comma, last = incomplete.rpartition(",")
    return [
        CompletionItem(f"{before}{comma}{name}")
        for name in names("evaluators")
        if name.startswith(last)
    ]


def formats(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Completes the name of a format."""
    return _starting(incomplete, names("formats"))


def datasets(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Completes the name of a data set."""
    return _starting(incomplete, names("datasets"))


def paths(
    ctx: click.Context, param: click.Parameter, incomplete: str, *, kind: str
) -> list[CompletionItem]:
    """Leaves completion of files and folders to the shell."""
    return [CompletionItem(incomplete, type=kind)]


files: Completer = partial(paths, kind="file")
folders: Completer = partial(paths, kind="dir")


def singular(kind: str) -> str:
    """Returns `head` for `heads`."""
    return kind.removesuffix("s")


def names(kind: str) -> list[str]:
    """Returns the names of all components of a kind, including installed plug-ins."""
    registry = KINDS[kind].partition(":")[2]
    found = {name for file in _sources(kind) for name in _registered(file, registry)}
    return sorted(found)


def recipes(method: str) -> list[str]:
    """Returns the recipes of a method, otherwise the generic ones."""
    registry = KINDS["methods"].partition(":")[2]
    for file in _sources("methods"):
        if method in _registered(file, registry):
            own = sorted(path.stem for path in (file.parent / "recipes").glob("*.yaml"))
            return own or sorted(path.stem for path in _generic().glob("*.yaml"))
    return []


def _sources(kind: str) -> Iterator[Path]:
    """Yields the Python files that may register components of a kind."""
    part = KINDS[kind].partition(":")[0].removesuffix(".base")
    packages = [METHODS_PACKAGE]  # a method's formats are in its package
    packages += [] if kind == "methods" else [part]
    entries = importlib.metadata.entry_points(group=GROUP)
    packages += sorted({entry.module.partition(".")[0] for entry in entries} - {"ssl_zoo"})
    for package in packages:
        yield from _files(package)


def _files(package: str) -> Iterator[Path]:
    """Yields the files of a package without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        return
    if spec.submodule_search_locations is None:
        yield from [Path(spec.origin)] if spec.origin else []
        return
    for place in spec.submodule_search_locations:
        yield from sorted(Path(place).rglob("*.py"))


def _generic() -> Path:
    return Path(__file__).resolve().parent.parent / "runs" / "generic"


def _registered(file: Path, registry: str) -> list[str]:
    """Returns the names under which the classes of a file are registered."""
    try:
        text = file.read_text(encoding="utf-8")
        if f"{registry}.register" not in text:
            return []
        tree = ast.parse(text)
    except (OSError, ValueError, SyntaxError):
        return []
    return [
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and any(ast.unparse(each) == f"{registry}.register" for each in node.decorator_list)
        for name in _literal_names(node)
    ]


def _literal_names(component: ast.ClassDef) -> Iterator[str]:
    """Yields `swav` for `class Config: name: Literal["swav"]` in a class."""
    for node in ast.walk(component):
        if not isinstance(node, ast.AnnAssign) or ast.unparse(node.target) != "name":
            continue
        if isinstance(node.annotation, ast.Subscript):
            held: Any = node.annotation.slice
            parts = held.elts if isinstance(held, ast.Tuple) else [held]
            yield from (str(part.value) for part in parts if isinstance(part, ast.Constant))


def _starting(incomplete: str, words: list[str]) -> list[CompletionItem]:
    return [CompletionItem(word) for word in words if word.startswith(incomplete)]
