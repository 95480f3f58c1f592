"""Runs of a comparison that are trained at the same time."""

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ssl_zoo.comparison.compare import compare
from ssl_zoo.comparison.side_by_side import StoppedTogether, train_side_by_side
from ssl_zoo.errors import UserError
from ssl_zoo.runs.folder import RunFolder
from tests.small import FAST, SHORT, fast_config

KNN: dict[str, Any] = {"name": "knn", "n_resamples": 100}


@pytest.mark.slow
def test_runs_trained_side_by_side_are_those_of_one_after_the_other(tmp_path: Path) -> None:
    options: dict[str, Any] = {"evaluators": [KNN], "overrides": [*FAST, *SHORT]}
    names = ["swav", "simclr"]
    one = compare(names, output=tmp_path / "one", **options)
    two = compare(names, output=tmp_path / "two", jobs=2, **options)
    for name in names:
        assert two.row(name).scores == one.row(name).scores
        assert two.row(name).host_gb is not None
    logs = sorted(file.name for file in (tmp_path / "two" / "logs").iterdir())
    assert [name.partition("-")[0] for name in logs] == ["simclr", "swav"]


def runs(folder: Path, n: int) -> list[Any]:
    configs = [fast_config("simclr", f"seed={seed}") for seed in range(n)]
    return [(config, RunFolder(folder / f"run{config.seed}")) for config in configs]


def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str) -> None:
    """Lets a program take the place of training; its last argument is the run folder."""
    script = tmp_path / "python"
    script.write_text(
        f"#!{sys.executable}\nimport os, sys, time, signal\nrun = sys.argv[-1]\n{program}\n"
    )
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))


def test_no_more_than_asked_for_are_trained_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each process notes how many are there with it."""
    busy, seen = tmp_path / "busy", tmp_path / "seen"
    busy.mkdir()
    fake(
        monkeypatch,
        tmp_path,
        f"mine = {str(busy)!r} + '/' + os.path.basename(run)\nopen(mine, 'w').close()\ntime.sleep(0.2)\n"
        f"print(len(os.listdir({str(busy)!r})), file=open({str(seen)!r}, 'a'))\nos.remove(mine)",
    )
    train_side_by_side(runs(tmp_path, 5), n_at_once=2, folder=tmp_path)
    found = [int(line) for line in seen.read_text().split()]
    assert len(found) == 5
    assert max(found) == 2
    assert RunFolder(tmp_path / "run4").config().seed == 4


def test_after_a_failure_no_other_run_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(monkeypatch, tmp_path, "print('ssl-zoo: the disk is full')\nsys.exit(2)")
    with pytest.raises(UserError) as caught:
        train_side_by_side(runs(tmp_path, 4), n_at_once=1, folder=tmp_path)
    message = str(caught.value)
    assert f"'{tmp_path / 'run0'}' ended with status 2: the disk is full (see " in message
    assert "\n" not in message
    assert not (tmp_path / "run1").exists()


def test_a_signal_stops_all_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(
        monkeypatch,
        tmp_path,
        "def end(*_):\n    open(run + '/saved', 'w').close()\n    sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, end)\nopen(run + '/there', 'w').close()\ntime.sleep(60)",
    )

    def interrupt() -> None:
        while len([*tmp_path.glob("run*/there")]) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    with pytest.raises(StoppedTogether, match="stopped; the runs are saved in") as caught:
        train_side_by_side(runs(tmp_path, 3), n_at_once=2, folder=tmp_path)
    assert caught.value.signum == signal.SIGTERM
    assert len([*tmp_path.glob("run*/saved")]) == 2
    assert not (tmp_path / "run2").exists()


def test_a_run_that_another_process_trains_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(monkeypatch, tmp_path, "pass")
    ((config, run),) = runs(tmp_path, 1)
    with run.lock(), pytest.raises(UserError, match="another process is training in"):
        train_side_by_side([(config, run)], n_at_once=2, folder=tmp_path)
