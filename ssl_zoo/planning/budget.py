"""Budgets of time, such as `2h` or `45min`."""

import re

from ssl_zoo.errors import UserError

_SECONDS = {"s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_FORM = re.compile(r"\s*(\d{1,6}(?:\.\d{1,6})?)\s*(s|min|m|h|d)\s*")


def seconds_of(text: str) -> float:
    """Returns a budget in seconds.

    Raises:
        UserError: it is not a number with a unit, or not positive.
    """
    found = _FORM.fullmatch(text.lower())
    seconds = float(found[1]) * _SECONDS[found[2]] if found else 0.0
    if seconds <= 0:
        raise UserError(f"'{text}' is not a budget of time; write for example 45min, 2h or 1d")
    return seconds


def time_text(seconds: float) -> str:
    """Returns a time in words, as in `50 s`, `45 min` or `2.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
