"""Signal handlers that set a flag, which training checks between steps."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)
"""Signals that request a stop, by priority. USR2, a launcher's notice that the job will be started
again, is last and takes precedence, because preemption without grace time sends it together with
TERM."""

_current: "StopRequest | None" = None


class StopRequest:
    """A request to stop.

    Attributes:
        signum: received signal of highest priority; 0 if none.
        seen: all received signals.
    """

    def __init__(self) -> None:
        self.signum = 0
        self.seen: set[int] = set()
        self._error: Callable[[int], Exception] | None = None

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if self.signum == signum == signal.SIGINT:  # a second Ctrl-C stops at once
            raise KeyboardInterrupt
        self.hear(signum)
        if self._error is not None:
            raise self._error(self.signum)

    def hear(self, signum: int) -> None:
        """Records a signal, which another rank may have received."""
        self.seen.add(signum)
        if weight(signum) > weight(self.signum):
            self.signum = signum

    @contextmanager
    def raising(self, error: Callable[[int], Exception]) -> Iterator[None]:
        """Makes signals raise an error at once within a `with` block in which nothing can be lost."""
        if self.signum:
            raise error(self.signum)
        self._error = error
        try:
            yield
        finally:
            self._error = None


def weight(signum: int) -> int:
    """Returns the priority of a signal, 0 for none; the inverse of `by_weight`."""
    return HANDLED.index(signal.Signals(signum)) + 1 if signum else 0


def by_weight(weight: int) -> int:
    """Returns the signal of a priority."""
    return int(HANDLED[weight - 1]) if weight else 0


@contextmanager
def listen() -> Iterator[StopRequest]:
    """Catches Ctrl-C, TERM and USR2 within a `with` block.

    Within another such block, the outer block's request is used, so that no earlier signal is lost.
    Works only in the main thread; in other threads the request stays empty.
    """
    global _current
    if threading.current_thread() is not threading.main_thread():
        yield StopRequest()
        return
    if _current is not None:
        yield _current
        return
    request = _current = StopRequest()
    before = {signum: signal.signal(signum, request) for signum in HANDLED}
    try:
        yield request
    finally:
        _current = None
        for signum, handler in before.items():
            signal.signal(signum, handler)
