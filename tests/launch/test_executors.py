"""Jobs on this machine, which pin what is used of submitit's local controller."""

import functools
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ssl_zoo.errors import UserError
from ssl_zoo.launch import sbatch
from ssl_zoo.runs.slurm import SlurmConfig
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]


STARTS_AGAIN = 144  # exit status by which a task asks submitit's controller for another start


def shell(text: str) -> Callable[[], object]:
    """Returns a job that runs shell lines; importable anywhere, so that its pickle is."""
    return functools.partial(subprocess.call, ["bash", "-c", text])


def exit_with(status: int, text: str) -> None:
    """Ends the process by a status, unless shell lines succeed."""
    if subprocess.call(["bash", "-c", text]):
        os._exit(status)


def wait_for_end(process: str) -> None:
    """Waits until a process that this one has started has ended."""

    def has_ended() -> bool:
        try:
            return bool(os.waitpid(int(process), os.WNOHANG)[0])
        except ChildProcessError:  # somebody else has heard of its end
            return True

    until(has_ended, f"process {process} ends")


def wait_for(file: Path) -> str:
    """Returns the text of a file, once it has some."""
    return until(lambda: file.is_file() and file.read_text(), f"{file} is written") or ""


def start(folder: Path, job: str | Callable[[], object], **fields: object) -> str:
    """Starts a job, or shell lines, on this machine; `folder` is submitit's of a run."""
    config = SlurmConfig.model_validate(fields)
    job = shell(job) if isinstance(job, str) else job
    path = [f"export PYTHONPATH={shlex.quote(str(ROOT))}"]  # for jobs that these tests define
    return sbatch.submit_local(config, folder, job, name="run", setup=path)


def test_a_local_job_has_its_setup_its_ranks_and_a_log_for_each(tmp_path: Path) -> None:
    folder = tmp_path / "my runs" / "submit"
    process = start(
        folder,
        'echo "$MARK: rank $SUBMITIT_LOCAL_GLOBALID of $SUBMITIT_LOCAL_NTASKS"; echo err >&2',
        tasks_per_node=2,
        setup=["shopt -s nullglob  # which only bash knows", "export MARK='a  b'"],
    )
    assert os.getsid(int(process)) == int(process), "closing the terminal would end it"
    wait_for_end(process)
    for rank in range(2):
        lines = (folder / f"{process}_{rank}_log.out").read_text().splitlines()
        assert f"a  b: rank {rank} of 2" in lines
        assert "err" in lines
        assert not any("shopt" in line for line in lines)


def test_a_local_job_starts_again_as_often_as_it_asks_and_may(tmp_path: Path) -> None:
    """Eight starts are more than submitit's own controller makes."""
    again = functools.partial(exit_with, STARTS_AGAIN, f"echo >> {tmp_path}/starts; false")
    wait_for_end(start(tmp_path / "submit", again, max_requeues=7))
    assert (tmp_path / "starts").read_text() == "\n" * 8


def test_a_local_job_that_fails_does_not_start_again(tmp_path: Path) -> None:
    fail = functools.partial(exit_with, 1, f"echo >> {tmp_path}/starts; false")
    wait_for_end(start(tmp_path / "submit", fail))
    assert (tmp_path / "starts").read_text() == "\n"


@pytest.mark.parametrize("name", ["SIGUSR2", "SIGTERM"])
def test_signals_reach_the_tasks_of_a_local_job(tmp_path: Path, name: str) -> None:
    process = start(tmp_path / "submit", functools.partial(note_signal, name, str(tmp_path)))
    assert wait_for(tmp_path / "ready") == "ready"
    os.kill(int(process), getattr(signal, name))
    wait_for_end(process)
    assert (tmp_path / "heard").read_text() == name


@pytest.mark.slow
def test_a_local_job_is_signalled_before_its_time_limit(tmp_path: Path) -> None:
    process = start(
        tmp_path / "submit",
        functools.partial(note_signal, "SIGUSR2", str(tmp_path)),
        timeout_min=2,
        signal_delay_s=89,
    )
    wait_for_end(process)
    assert (tmp_path / "heard").read_text() == "SIGUSR2"  # at the limit it would be killed


def note_signal(name: str, folder: str) -> None:
    """Waits for a signal, and writes down that it came."""
    heard: list[int] = []
    signal.signal(getattr(signal, name), lambda number, frame: heard.append(number))
    Path(folder, "ready").write_text("ready")
    while not heard:
        time.sleep(0.05)
    Path(folder, "heard").write_text(signal.Signals(heard[0]).name)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for a process in /proc")
def test_a_task_that_fails_takes_the_others_of_a_local_job_along(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    stay = f"echo $PPID >{pid}; while kill -0 $PPID; do sleep 0.1; done; exit"
    wait = f"for i in {{1..600}}; do [ -s {pid} ] && break; sleep 0.1; done"
    text = f"if [ $SUBMITIT_LOCAL_GLOBALID = 0 ]; then {stay}; fi; {wait}; false"
    process = start(tmp_path / "submit", functools.partial(exit_with, 1, text), tasks_per_node=2)
    wait_for_end(process)
    other = Path("/proc", wait_for(pid).strip(), "exe")  # there is none of a zombie
    until(lambda: not other.exists(), "the task that did not fail ends")


@pytest.mark.parametrize(
    ("given", "gpus", "seen"),
    [
        (None, 0, "unset"),
        ("3,5", 0, "3,5"),
        ("", 0, ""),
        (None, 2, "0,1"),
        ("GPU-a,GPU-b,GPU-c", 2, "GPU-a,GPU-b"),
    ],
)
def test_a_local_job_sees_the_gpus_that_the_user_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str | None, gpus: int, seen: str
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if given is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    text = f"echo ${{CUDA_VISIBLE_DEVICES-unset}} >> {tmp_path}/seen"
    wait_for_end(start(tmp_path / "submit", text, gpus_per_node=gpus))
    assert set((tmp_path / "seen").read_text().splitlines()) == {seen}


def test_a_local_job_has_one_machine_and_no_hidden_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    with pytest.raises(UserError, match=r"slurm.nodes is 2; set slurm.nodes=1"):
        start(tmp_path / "submit", "true", nodes=2)
    with pytest.raises(
        UserError, match="gpus_per_node is 2, but CUDA_VISIBLE_DEVICES='5' shows 1"
    ):
        start(tmp_path / "submit", "true", gpus_per_node=2)
    assert not (tmp_path / "submit").exists()
