"""Loader processes: the main process alone decides what a signal means."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ssl_zoo.config import dump_yaml
from ssl_zoo.data.reader import in_processes
from ssl_zoo.runs.folder import RunFolder
from tests.data import folders
from tests.small import fast_config

N_WORKERS = 2
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)


def signal_itself(job: int) -> int:
    """Sends this process all signals that ask to stop."""
    for signum in STOPS:
        os.kill(os.getpid(), signum)
    return job


def test_workers_ignore_signals_that_ask_to_stop() -> None:
    found = in_processes(signal_itself, range(4), num_workers=N_WORKERS)
    assert list(found) == [0, 1, 2, 3]


def test_starting_workers_leaves_the_signals_of_this_process_as_they_were() -> None:
    before = [signal.getsignal(signum) for signum in STOPS]
    assert list(in_processes(abs, range(2), num_workers=1)) == [0, 1]
    assert [signal.getsignal(signum) for signum in STOPS] == before
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()


@pytest.fixture
def training(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A run that reads image files in loader processes, in a process group of its own."""
    folders.two_classes(tmp_path / "images", n=16)
    config = fast_config(
        "simclr",
        f"data={{name: image_folder, root: {tmp_path / 'images'}}}",
        f"num_workers={N_WORKERS}",
        "global_batch_size=8",
        "epochs=10000",
        "log_every=1",
    )
    (tmp_path / "run.yaml").write_text(dump_yaml(config))
    command = [sys.executable, "-m", "ssl_zoo", "train", "--config", "run.yaml", "-o", "run"]
    with subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        folder = RunFolder(tmp_path / "run")
        wait_until(
            lambda: folder.metrics_file.is_file() and folder.metrics_file.stat().st_size > 1000
        )
        wait_until(lambda: len(group_of(process)) > N_WORKERS)
        yield process
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def wait_until(holds: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def group_of(process: subprocess.Popen[str]) -> list[int]:
    """Returns the processes of a process group that have not ended."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            state, _, group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
            if int(group) == process.pid and state != "Z":
                found.append(int(entry.name))
    return found


@pytest.mark.slow
def test_a_signal_to_the_whole_process_group_ends_in_a_save(
    training: subprocess.Popen[str], tmp_path: Path
) -> None:
    os.killpg(training.pid, signal.SIGTERM)
    _, errors = training.communicate(timeout=120)
    last = RunFolder(tmp_path / "run").history.read()[-1]
    assert (last.event, last.reason) == ("stopped", "SIGTERM")
    assert training.returncode == 128 + signal.SIGTERM
    assert "DataLoader worker" not in errors
    assert (tmp_path / "run" / "checkpoints" / f"step-{last.step:08d}").is_dir()
    wait_until(lambda: not group_of(training))


@pytest.mark.slow
def test_workers_end_when_the_main_process_is_killed(training: subprocess.Popen[str]) -> None:
    training.kill()
    training.wait()
    wait_until(lambda: not group_of(training), seconds=60)
