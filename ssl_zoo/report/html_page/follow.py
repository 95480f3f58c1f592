"""`follow_run`: a page that is written again while its run trains."""

import re
import time
from collections.abc import Callable
from pathlib import Path

from ssl_zoo.errors import UserError
from ssl_zoo.report.html_page.write import write_report
from ssl_zoo.runs.folder import RunFolder


def follow_run(
    run: str | Path,
    output: Path,
    *,
    tell: Callable[[str], None],
    every_s: float = 10.0,
    with_map: bool = True,
    with_views: bool = True,
) -> None:
    """Writes the page of a run whenever the run has new metrics or checkpoints, until it is complete.

    The map, which computes features, is only made for the last page, so that it does not slow down
    training. A stopped run may be resumed, and is waited for.

    Args:
        run: the run folder.
        output: the file to write; it is replaced as a whole.
        tell: called once with each line about what is left out, lines that differ in numbers only being one.
        every_s: seconds between checks of the folder.

    Raises:
        UserError: the folder is missing, is deleted meanwhile, or cannot be shown.
    """
    folder = RunFolder(run)
    if not folder.path.is_dir():
        raise UserError(f"'{run}' is not a run folder; start the run first, or check the spelling")
    told: set[str] = set()
    shown = None
    while True:
        complete = folder.is_complete  # before reading, so that the last page misses nothing
        state = _state(folder)
        if complete or state != shown:
            notes = _write(folder, output, with_map=with_map and complete, with_views=with_views)
            for note in notes:
                kind = re.sub(
                    r"\d+", "", note
                )  # "its metrics end at step 20" would be told again at every step
                if kind not in told:
                    tell(note)
                told.add(kind)
            shown = state
        if complete:
            return
        time.sleep(every_s)
        if not folder.path.is_dir():
            raise _deleted(folder, output)


def _write(folder: RunFolder, output: Path, *, with_map: bool, with_views: bool) -> list[str]:
    try:
        return write_report([folder.path], output, with_map=with_map, with_views=with_views)
    except (UserError, OSError):
        if folder.path.is_dir():
            raise
        raise _deleted(folder, output) from None


def _deleted(folder: RunFolder, output: Path) -> UserError:
    return UserError(
        f"the run '{folder.path}' was deleted while it was watched; '{output}' shows what it was"
    )


def _state(folder: RunFolder) -> tuple[tuple[int, int], ...]:
    """Returns what changes when a run has news: sizes and times of its metrics and checkpoints."""
    found = []
    for path in (folder.path / "metrics.jsonl", folder.checkpoints):
        try:
            facts = path.stat()
        except FileNotFoundError:
            found.append((0, 0))
        else:
            found.append((facts.st_size, facts.st_mtime_ns))
    return tuple(found)
