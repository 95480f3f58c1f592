"""Budgets of runs: time, images, floating-point operations or epochs; `2h`, `50M images`, `3e15 FLOPs`."""

import re
from dataclasses import dataclass
from typing import Literal

from ssl_zoo.errors import UserError

_SECONDS = {"s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_FORM = re.compile(r"\s*(\d{1,6}(?:\.\d{1,6})?)\s*(s|min|m|h|d)\s*")
_AMOUNT = re.compile(
    r"\s*(\d{1,18}(?:\.\d{1,9})?(?:e\+?\d{1,2})?)\s*([kmgtp]?)\s*(image|flop|epoch)s?\s*"
)
_LARGE = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "p": 1e15}

Unit = Literal["seconds", "images", "flops", "epochs"]


@dataclass(frozen=True)
class Budget:
    """What training may take.

    Attributes:
        text: the budget as it was written.
        amount: how much, in the unit.
        unit: `seconds` of all runs together; `images`, `flops` or `epochs` of each run.
    """

    text: str
    amount: float
    unit: Unit


def read_budget(text: str) -> Budget:
    """Returns a budget of time, images, FLOPs or epochs.

    Raises:
        UserError: it is not a number with one of these units, or not positive.
    """
    if _FORM.fullmatch(text.lower()) and not text.rstrip().endswith("M"):  # a million of what?
        return Budget(text.strip(), seconds_of(text), "seconds")
    found = _AMOUNT.fullmatch(text.lower())
    amount = float(found[1]) * _LARGE[found[2]] if found else 0.0
    if found is None or amount <= 0:
        raise UserError(
            f"'{text}' is not a budget; write for example 2h, 50M images, 3e15 FLOPs or 20 epochs"
        )
    units: dict[str, Unit] = {"image": "images", "flop": "flops", "epoch": "epochs"}
    return Budget(text.strip(), amount, units[found[3]])


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
