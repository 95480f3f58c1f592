"""A progress bar on standard error, for work of a known length."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ssl_zoo import distributed


@contextmanager
def progress_bar(
    title: str, total: int, *, wanted: bool = True
) -> Iterator[Callable[[int], None]]:
    """Yields a function that advances the bar; it does nothing unless standard error is a terminal.

    Args:
        title: what is counted.
        total: the number of it.
        wanted: False for no bar at all.
    """
    if not (wanted and distributed.is_main() and sys.stderr.isatty()):
        yield lambda n: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda n: bar.advance(task, n)
