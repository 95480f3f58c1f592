"""Output to a terminal, a pipe or a file."""

import os
import sys

import click
from rich.console import Console, RenderableType
from rich.segment import Segment, Segments

from ssl_zoo.plain_text import printable

PIPED_WIDTH = 120
"""Width of output to a file or a pipe, unless COLUMNS is set."""
PROSE_WIDTH = 100
"""Maximum width of running text."""


def width() -> int:
    """Returns the width of the output."""
    return _console().width


def prose_width() -> int:
    """Returns the width of running text."""
    return min(width(), PROSE_WIDTH)


def show(content: RenderableType) -> None:
    """Prints a rich renderable without trailing spaces."""
    console = _console()
    segments = [
        Segment(printable(text), style)
        for text, style, control in console.render(content)
        if not control
    ]
    with console.capture() as captured:
        console.print(Segments(segments))
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def say(text: str, *, err: bool = False) -> None:
    """Prints a text with names of any origin, such as those of files."""
    click.echo(printable(text), err=err)


def _console() -> Console:
    fixed = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    columns = PIPED_WIDTH if fixed else None
    return Console(width=columns, highlight=False, markup=False, emoji=False)
