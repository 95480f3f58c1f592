"""How runs are that were started in a terminal, or as jobs on one machine."""

import fcntl
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ssl_zoo.jobs.status import RunStatus, status, statuses
from tests.jobs.fake_slurm import (
    FakeSlurm,
    make_run,
    started,
    write_checkpoint,
)
from tests.waiting import until


@pytest.mark.parametrize("how_it_left", ["stopped", "failed"])
def test_a_run_in_a_terminal_is_as_it_left(
    how_it_left: str, how: Callable[..., RunStatus]
) -> None:
    here = started(None, host=socket.gethostname())
    found = how(None, here, {"event": how_it_left, "reason": "because", "step": 3})
    assert (found.state, found.job, found.has_failed) == (how_it_left.upper(), None, True)


def test_a_run_in_a_terminal_that_was_killed_is_lost(how: Callable[..., RunStatus]) -> None:
    found = how(None, started(None, host=socket.gethostname()))
    assert (found.state, found.reason) == ("LOST", "its process ended without recording why")


def test_a_run_in_a_terminal_of_another_machine_may_run(how: Callable[..., RunStatus]) -> None:
    found = how(None, started(None, host="elsewhere"))
    assert (found.state, found.is_over) == ("UNKNOWN", False)
    assert "started on elsewhere" in found.reason


def test_a_run_from_before_there_were_histories_has_stopped(
    slurm: FakeSlurm, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "a")
    write_checkpoint(run, 5)
    assert status(run).state == "STOPPED"


HOLD = """
import fcntl, sys, time
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(not Path("/proc/locks").is_file(), reason="there is no list of locks")
def test_a_run_whose_lock_is_held_runs_and_its_lock_is_not_touched(
    slurm: FakeSlurm, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "a", started(None, host=socket.gethostname()))
    other = make_run(tmp_path / "b", started(None, host=socket.gethostname()))
    (other / ".lock").touch()
    command = [sys.executable, "-c", HOLD, str(run / ".lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = statuses([run, other])
        process.kill()
    assert [each.state for each in found] == ["RUNNING", "LOST"]
    with (run / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_later_start_in_a_terminal_makes_the_job_old_news(how: Callable[..., RunStatus]) -> None:
    here = started(None, host=socket.gethostname())
    found = how("730", started("730"), here, {"event": "stopped", "reason": "SIGINT", "step": 9})
    assert (found.state, found.job) == ("STOPPED", None)
    assert found.reason == "stopped by Ctrl-C, saved at step 9"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads command lines in /proc")
def test_a_local_job_runs_while_its_controller_does(slurm: FakeSlurm, tmp_path: Path) -> None:
    run = tmp_path / "a"
    line = "import time; time.sleep(600)"
    arguments = ["-m", "ssl_zoo.launch.controller", str(run / "submit"), "3", "a"]
    with subprocess.Popen([sys.executable, "-c", line, *arguments]) as process:
        job, here = str(process.pid), socket.gethostname()
        make_run(run, started(None, host=here), job=job, launcher="local", host=here)
        until(lambda: status(run).state == "RUNNING", "its command line can be read")
        alive = status(run)
        process.kill()
    gone = status(run)
    assert (alive.state, alive.job, alive.launcher) == ("RUNNING", job, "local")
    assert (gone.state, gone.has_failed) == ("LOST", True)
    assert slurm.calls() == []
