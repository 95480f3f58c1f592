"""Loader processes: the main process alone decides what a signal means."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from ssl_zoo.config import dump_yaml
from ssl_zoo.data.processes import in_processes
from ssl_zoo.errors import UserError
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


def die(job: int) -> int:
    if job == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return job


def fail(job: int) -> int:
    raise RuntimeError("out of paper")


def pid(job: int) -> int:
    return os.getpid()


def test_a_killed_worker_is_one_line_that_names_it() -> None:
    found = in_processes(die, range(20), num_workers=N_WORKERS)
    said = r"loader process 2 of 2 \(process \d+\) was killed by SIGKILL, often because memory ran out"
    with pytest.raises(UserError, match=said) as caught:
        list(found)
    assert "\n" not in str(caught.value)


def test_an_error_in_a_worker_names_it() -> None:
    with pytest.raises(RuntimeError, match="out of paper\n.*in loader process 1 of 2"):
        next(in_processes(fail, range(20), num_workers=N_WORKERS))


def test_workers_live_until_the_last_job() -> None:
    found = set(in_processes(pid, range(40), num_workers=N_WORKERS))
    assert len(found) == N_WORKERS
    assert os.getpid() not in found


@pytest.mark.parametrize("work", [pid, fail])
def test_workers_end_when_their_results_are_not_wanted_any_more(
    work: Callable[[int], int],
) -> None:
    before = set(multiprocessing.active_children())
    found = in_processes(work, range(40), num_workers=N_WORKERS)
    with contextlib.suppress(RuntimeError):
        next(found)
    found.close()
    assert set(multiprocessing.active_children()) == before


@pytest.mark.parametrize(
    ("last", "status"),
    [
        ("next(found); 1 / 0", 1),
        ("next(in_processes(fail, [1] * 9, num_workers=2))", 1),
        ("sys.kept = [found, next(found)]", 0),
    ],
)
def test_a_process_that_ends_does_not_wait_for_its_workers(last: str, status: int) -> None:
    """Python waits for what is left at exit, and an error that is shown keeps everything alive."""
    code = (
        "from tests.data.test_processes import *\n"
        f"found = in_processes(pid, range(40), num_workers=2)\n{last}\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    assert ended.returncode == status


def test_a_death_leaves_the_handlers_of_signals_as_they_were() -> None:
    before = signal.getsignal(signal.SIGCHLD)
    next(in_processes(pid, range(4), num_workers=N_WORKERS))
    assert signal.getsignal(signal.SIGCHLD) == before


def test_workers_start_after_work_on_many_threads() -> None:
    """Processes that fork after OpenMP has started its threads hang if they use more than one."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        torch.ones(600, 600) @ torch.ones(600, 600)
        assert list(in_processes(product, range(4), num_workers=N_WORKERS)) == [600.0] * 4
    finally:
        torch.set_num_threads(before)


def product(job: int) -> float:
    return float((torch.ones(600, 600) @ torch.ones(600, 600))[0, 0])


def test_work_in_the_main_process_uses_one_thread() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert list(in_processes(threads, range(2), num_workers=0)) == [1, 1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def threads(job: int) -> int:
    return torch.get_num_threads()


def _full(job: int) -> torch.Tensor:
    found = torch.zeros(3)
    found.share_memory_ = lambda: (_ for _ in ()).throw(  # type: ignore[method-assign]
        RuntimeError("unable to allocate shared memory(shm): No space left on device (28)")
    )
    return found


def test_shared_memory_that_is_full_is_one_line() -> None:
    with pytest.raises(UserError, match="shared memory for loader processes is full"):
        list(in_processes(_full, range(4), num_workers=2))
