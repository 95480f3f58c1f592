"""Plans that several runs share a budget with."""

from pathlib import Path

import pytest

from ssl_zoo.planning import plan as module
from ssl_zoo.planning.budget import Budget
from ssl_zoo.planning.kept import shared_budget
from ssl_zoo.planning.machine import Machine
from ssl_zoo.planning.rehearsal import Pace
from tests.data import folders


def test_runs_share_a_budget_and_keep_their_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(40):
        folders.write(tmp_path / "photos" / ("a", "b")[number % 2] / f"{number}.png", number)
    steps = iter((0.5, 0.1))
    monkeypatch.setattr(module, "rehearse", lambda config: Pace(10, next(steps), 6))
    monkeypatch.setattr(module, "this_machine", lambda: Machine(2, 24))
    data, out = str(tmp_path / "photos"), tmp_path / "out"
    planned = shared_budget(data, Budget("20min", 600, "seconds"), folder=out)
    first = planned("simclr", [f"data={data}", "seed=0"])
    assert first.epochs == int((0.8 * 600 - 10 - 11 * 4 / 6) / 4)
    again = shared_budget(data, Budget("20min", 600, "seconds"), folder=out)
    second = again("simclr", ["seed=1"])
    assert (second.epochs, second.seed) == (first.epochs, 1)
    longer = shared_budget(data, Budget("40min", 1200, "seconds"), folder=out)
    other = longer("simclr", ["seed=0"])
    assert other.epochs > first.epochs
