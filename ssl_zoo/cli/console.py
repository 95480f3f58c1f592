"""Printing to a terminal, a pipe or a file."""

import os
import sys

import click
from rich.console import Console, RenderableType

PIPED_WIDTH = 120
"""Columns of what goes to a file or a pipe, unless COLUMNS says otherwise."""
PROSE_WIDTH = 100
"""Columns that sentences fill at most."""


def width() -> int:
    """Returns the columns there are."""
    return _console().width


def prose_width() -> int:
    """Returns the columns that sentences may fill."""
    return min(width(), PROSE_WIDTH)


def show(content: RenderableType) -> None:
    """Prints content of rich without the blanks that rich puts at the ends of lines."""
    console = _console()
    with console.capture() as captured:
        console.print(content)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def _console() -> Console:
    fixed = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    columns = PIPED_WIDTH if fixed else None
    return Console(width=columns, highlight=False, markup=False, emoji=False)
