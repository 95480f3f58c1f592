"""Writes `docs/trouble/faults.md` from the docstrings of the stories: `python -m tests.faults.page`.

A story is a test in this folder whose docstring says what goes wrong, what happens then, and what to do:

    def test_images_replaced_under_the_same_names(...):
        \"\"\"Images are replaced by others of the same names and sizes.

        Then: their features are computed again; kept ones are not used.
        Do: nothing.
        \"\"\"

The docstring of its file is the heading of a section. Nothing is imported.
"""

import ast
import inspect
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tests.documents import ROOT

PAGE = ROOT / "docs" / "trouble" / "faults.md"
WITHOUT_STORIES = {"test_fuzz", "test_page", "test_properties"}
"""Files of this folder that test something else."""
FORM = re.compile(r"(?P<fault>\S.*?)\n\nThen: (?P<then>\S.*?)\nDo: (?P<do>\S.*)", re.DOTALL)
INTRODUCTION = """\
# What can go wrong, and what happens then

Each row is a test in [`tests/faults`](../../tests/faults), which makes it happen and checks the outcome;
`make faults` runs them all. This page is generated: `python -m tests.faults.page`.
"""


class Story(NamedTuple):
    """What goes wrong, what happens then, and what to do, each in a sentence or two."""

    fault: str
    then: str
    do: str


def files() -> list[Path]:
    """Returns the files with stories."""
    found = sorted(Path(__file__).parent.glob("test_*.py"))
    return [file for file in found if file.stem not in WITHOUT_STORIES]


def docstrings(file: Path) -> dict[str, str]:
    """Returns the docstring of each test of a file, by name; empty without one."""
    nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef)]
    found = sorted(functions, key=lambda node: node.lineno)
    return {
        node.name: ast.get_docstring(node) or "" for node in found if node.name.startswith("test_")
    }


def story(text: str) -> Story | None:
    """Returns the story that a docstring tells; None if it has another form."""
    match = FORM.fullmatch(inspect.cleandoc(text))
    if match is None:
        return None
    return Story(*(" ".join(part.split()) for part in match.groups()))


def heading(file: Path) -> str:
    """Returns the heading of a file's section.

    Raises:
        ValueError: the docstring of the file is not one line.
    """
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    if len(text.splitlines()) != 1:
        raise ValueError(f"the docstring of {file.name} is not one line: {text!r}")
    return text.rstrip(".")


def page(found: Iterable[Path]) -> str:
    """Returns the page of the stories in some files; each story is told once."""
    parts = [INTRODUCTION]
    for file in found:
        told = [story(text) for text in docstrings(file).values()]
        rows = [_row(*each) for each in dict.fromkeys(filter(None, told))]
        lines = [
            _row("what goes wrong", "what happens then", "what to do"),
            "|---|---|---|",
            *rows,
        ]
        parts.append("\n".join([f"## {heading(file)}", "", *lines, ""]))
    return "\n".join(parts)


def _row(*cells: str) -> str:
    """Returns a row of a table; sentences begin with a capital letter and keep their full stops."""
    return "| " + " | ".join(_cell(each) for each in cells) + " |"


def _cell(text: str) -> str:
    return (text[:1].upper() + text[1:]).replace("|", "\\|") if text.endswith(".") else text


if __name__ == "__main__":
    PAGE.write_text(page(files()), encoding="utf-8")
