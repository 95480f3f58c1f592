"""Budgets of time."""

import pytest

from ssl_zoo.errors import UserError
from ssl_zoo.planning.budget import Budget, read_budget, seconds_of, time_text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("45min", 2700), ("1.5 h", 5400), ("2H", 7200), ("1d", 86400)],
)
def test_a_number_with_a_unit_is_a_budget(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "0h", "-1h", "2 weeks", "1e3s"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="is not a budget of time; write for example 45min"):
        seconds_of(text)


@pytest.mark.parametrize(("seconds", "text"), [(50, "50 s"), (2700, "45 min"), (9000, "2.5 h")])
def test_times_are_in_a_unit_that_reads_well(seconds: float, text: str) -> None:
    assert time_text(seconds) == text


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("50M images", 5e7, "images"),
        ("1 image", 1, "images"),
        ("3e15 FLOPs", 3e15, "flops"),
        ("2.5T flop", 2.5e12, "flops"),
        ("20 epochs", 20, "epochs"),
        ("5 min", 300, "seconds"),
        ("2h", 7200, "seconds"),
    ],
)
def test_a_budget_has_one_of_four_units(text: str, amount: float, unit: str) -> None:
    assert read_budget(text) == Budget(text, amount, unit)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", ["", "20", "0 epochs", "-1 images", "2 weeks", "50M", "1e400 images"]
)
def test_other_budgets_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="is not a budget; write for example 2h, 50M images"):
        read_budget(text)
