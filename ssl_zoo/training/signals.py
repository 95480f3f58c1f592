"""Signals only set a flag; training looks at it between two steps."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)
"""Requests to stop, by weight: USR2, a launcher's notice that the job will be started again, counts
most, since preemption without grace sends it together with TERM."""

_current: "StopRequest | None" = None


class StopRequest:
    """Remembers who asked to stop.

    Attributes:
        signum: the weightiest signal that came; 0 while none has.
        seen: all that came.
    """

    def __init__(self) -> None:
        self.signum = 0
        self.seen: set[int] = set()
        self._error: Callable[[int], Exception] | None = None

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if self.signum == signum == signal.SIGINT:  # a second Ctrl-C does not wait for the step
            raise KeyboardInterrupt
        self.hear(signum)
        if self._error is not None:
            raise self._error(self.signum)

    def hear(self, signum: int) -> None:
        """Takes note of a signal, be it one that another rank got."""
        self.seen.add(signum)
        if weight(signum) > weight(self.signum):
            self.signum = signum

    @contextmanager
    def raising(self, error: Callable[[int], Exception]) -> Iterator[None]:
        """Raises an error at once, for the time of a `with` block in which nothing can be lost."""
        if self.signum:
            raise error(self.signum)
        self._error = error
        try:
            yield
        finally:
            self._error = None


def weight(signum: int) -> int:
    """Returns 0 for no signal, and more for one that counts more; the inverse of `by_weight`."""
    return HANDLED.index(signal.Signals(signum)) + 1 if signum else 0


def by_weight(weight: int) -> int:
    """Returns the signal of a weight."""
    return int(HANDLED[weight - 1]) if weight else 0


@contextmanager
def listen() -> Iterator[StopRequest]:
    """Catches Ctrl-C, TERM and USR2 for the time of a `with` block.

    Within another such block it is that block's request, so that nothing that came before is lost.
    Only the main thread can; elsewhere the request stays empty.
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
