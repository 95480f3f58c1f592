"""Waiting for what another thread or process does, however busy the machine is."""

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")

PATIENCE_S = 300.0
"""How long something is waited for that comes within seconds where the machine is not busy."""


def until(look: Callable[[], Value], what: str = "", *, every_s: float = 0.02) -> Value:
    """Returns what `look` does as soon as that is true.

    Raises:
        AssertionError: it was not within `PATIENCE_S`; says `what`.
    """
    deadline = time.monotonic() + PATIENCE_S
    while not (seen := look()):
        assert time.monotonic() < deadline, f"not within {PATIENCE_S:.0f} s: {what}"
        time.sleep(every_s)
    return seen
