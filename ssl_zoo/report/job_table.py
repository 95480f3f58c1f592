"""Status of jobs as a terminal table."""

import textwrap
from collections.abc import Callable, Sequence

from rich.console import Group
from rich.text import Text

from ssl_zoo.jobs.status import RunStatus

GAP = 2
"""Spaces between columns."""
INDENT = 4
"""Spaces before the line with the reason for a run's state."""
OPTIONAL = ("images/s", "requeues", "job", "checkpoint")
"""Columns that are dropped if the terminal is too narrow, in this order."""
STYLES = {"RUNNING": "green", "COMPLETE": "green", "PENDING": "yellow", "REQUEUED": "yellow"}


def jobs_table(found: Sequence[RunStatus], *, width: int) -> Group:
    """Returns one line per run, followed by the reason for its state; text is never truncated.

    Empty columns are omitted.
    """
    columns = {heading: [cell(status) for status in found] for heading, cell in CELLS.items()}
    columns = {heading: cells for heading, cells in columns.items() if any(cells)}
    for heading in OPTIONAL:
        if _width(columns) > width:
            columns.pop(heading, None)
    headings, *rows = _aligned(columns)
    lines = [Text(headings, style="bold")]
    for status, row in zip(found, rows, strict=True):
        line = Text(row)
        style = "red" if status.has_failed else STYLES.get(status.state, "")
        line.highlight_regex(rf"(?<= ){status.state}(?= |$)", style)
        lines.append(line)
        lines += [Text(reason, style="dim") for reason in _reason(status, width)]
    return Group(*lines)


def duration(seconds: float | None) -> str:
    """Returns a duration in two or three digits: `95 s`, `12 min`, `3.5 h`, `4 d`."""
    if seconds is None:
        return ""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 10 * 3600:
        return f"{seconds / 3600:.1f} h"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86400:.0f} d"


def _step(status: RunStatus) -> str:
    if status.step is None:
        return ""
    return f"{status.step}/{status.total_steps}" if status.total_steps else str(status.step)


def _checkpoint(status: RunStatus) -> str:
    if status.checkpoint_step is None:
        return ""
    return f"{status.checkpoint_step}, {duration(status.checkpoint_age_s)} ago"


def _rate(status: RunStatus) -> str:
    return "" if status.images_per_second is None else f"{status.images_per_second:.0f}"


CELLS: dict[str, Callable[[RunStatus], str]] = {
    "run": lambda status: status.name,
    "job": lambda status: status.job or "",
    "state": lambda status: status.state,
    "requeues": lambda status: str(status.requeues or ""),
    "step": _step,
    "checkpoint": _checkpoint,
    "images/s": _rate,
    "ETA": lambda status: duration(status.eta_s),
}
LEFT = ("run", "job", "state")


def _width(columns: dict[str, list[str]]) -> int:
    widths = [max(map(len, [heading, *cells])) for heading, cells in columns.items()]
    return sum(widths) + GAP * (len(widths) - 1)


def _aligned(columns: dict[str, list[str]]) -> list[str]:
    """Returns the headings and rows with aligned cells."""
    padded = []
    for heading, cells in columns.items():
        wide = max(map(len, [heading, *cells]))
        pad = str.ljust if heading in LEFT else str.rjust
        padded.append([pad(cell, wide) for cell in [heading, *cells]])
    return [(" " * GAP).join(cells).rstrip() for cells in zip(*padded, strict=True)]


def _reason(status: RunStatus, width: int) -> list[str]:
    return textwrap.wrap(
        status.reason,
        width,
        initial_indent=" " * INDENT,
        subsequent_indent=" " * INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )
