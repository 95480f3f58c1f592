"""Signals only set a flag; training looks at it between two steps."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)


class StopRequest:
    """Remembers the first signal that asked to stop; 0 while none has."""

    def __init__(self) -> None:
        self.signum = 0

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if self.signum == signum == signal.SIGINT:  # a second Ctrl-C does not wait for the step
            raise KeyboardInterrupt
        self.signum = signum


@contextmanager
def listen() -> Iterator[StopRequest]:
    """Catches Ctrl-C, TERM and USR2 for the time of a `with` block.

    Only the main thread can; elsewhere the request stays empty.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {signum: signal.signal(signum, request) for signum in HANDLED}
    try:
        yield request
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
