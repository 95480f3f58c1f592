"""Cancelling, requeueing and releasing: what SLURM is told, and what is said of it."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ssl_zoo.errors import UserError
from ssl_zoo.launch import control
from ssl_zoo.launch.control import cancel, release, requeue
from tests.jobs.fake_slurm import FakeSlurm, make_run, started, write_checkpoint
from tests.waiting import PATIENCE_S

ORDERS = (cancel, requeue, release)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    monkeypatch.setattr(control, "PATIENCE_S", 0.2)
    monkeypatch.chdir(tmp_path)
    return FakeSlurm(tmp_path, monkeypatch)


def orders(slurm: FakeSlurm) -> list[str]:
    """Returns what SLURM was told to do."""
    return [call for call in slurm.calls() if call.startswith(("scancel", "scontrol"))]


def run_of(job: str, *, step: int | None = None) -> Path:
    """Makes the folder of a run whose job has begun to train."""
    run = make_run(Path("runs") / "a", started(job, restart=9), job=job)
    if step is not None:
        write_checkpoint(run, step)
    return run


def test_a_cancelled_run_reports_its_step_and_how_to_resume(slurm: FakeSlurm) -> None:
    run = run_of("727", step=120)
    slurm.says("scancel", then=f': > "{slurm.folder}/squeue.out"')  # the job leaves the queue
    assert cancel(run) == (
        "job 727 of 'runs/a' is cancelled; saved at step 120 of 400; "
        "resume with: ssl-zoo submit --config runs/a/config.yaml -o runs/a"
    )
    assert orders(slurm) == ["scancel 727"]


def test_a_job_that_is_still_saving_is_not_called_cancelled(slurm: FakeSlurm) -> None:
    said = cancel(run_of("727"))
    assert "job 727 of 'runs/a' was asked to stop" in said
    assert said.endswith("see: ssl-zoo jobs runs/a")


def test_a_run_that_completes_before_it_is_cancelled_is_complete(slurm: FakeSlurm) -> None:
    run = run_of("727")
    leave = f': > "{slurm.folder}/squeue.out"; : > "{run.absolute()}/complete.json"'
    slurm.says("scancel", then=leave)
    assert "is already complete" in cancel(run)


def test_a_waiting_job_is_cancelled_too(slurm: FakeSlurm) -> None:
    run = run_of("729_3")
    slurm.says("scancel", then=f': > "{slurm.folder}/squeue.out"')
    assert "job 729_3 of 'runs/a' is cancelled; nothing was saved; " in cancel(run)


def test_a_scoring_job_is_resumed_by_submitting_it_again(slurm: FakeSlurm) -> None:
    run = run_of("727")
    (run / "evaluate.json").write_text(json.dumps({"checkpoint": "/x/the run"}))
    slurm.says("scancel", then=f': > "{slurm.folder}/squeue.out"')
    assert cancel(run).endswith("resume with: ssl-zoo submit evaluate '/x/the run' -o runs/a")


def test_a_running_job_is_asked_to_save_and_requeue_itself(slurm: FakeSlurm) -> None:
    run = run_of("727")
    assert requeue(run) == (
        "job 727 of 'runs/a' was asked to save and to requeue itself; see: ssl-zoo jobs runs/a"
    )
    assert orders(slurm) == ["scancel --signal=USR2 727"]


def test_a_job_that_has_requeued_itself_reports_its_step(slurm: FakeSlurm) -> None:
    run = run_of("727", step=33)
    event = json.dumps({"event": "requeued", "job": "727", "restart": 9, "step": 33})
    slurm.says("scancel", then=f"echo '{event}' >> '{run.absolute()}/history.jsonl'")
    assert requeue(run) == "job 727 of 'runs/a' has requeued itself; saved at step 33 of 400"


def test_a_deaf_job_is_requeued_by_slurm(slurm: FakeSlurm) -> None:
    said = requeue(run_of("727", step=40), hard=True)
    assert said.startswith("job 727 of 'runs/a' is requeued")
    assert said.endswith("step 40")
    assert orders(slurm) == ["scontrol requeue 727"]


def test_a_job_that_starts_up_is_not_signalled(slurm: FakeSlurm) -> None:
    run = make_run(Path("runs") / "a", job="727")
    with pytest.raises(UserError, match="starting up .*try again"):
        requeue(run)
    assert orders(slurm) == []


@pytest.mark.parametrize(
    ("job", "way_out"),
    [
        ("728", "is held; release it with: ssl-zoo release runs/a"),
        ("744", "already in the queue: BeginTime"),
    ],
)
@pytest.mark.parametrize("hard", [False, True])
def test_what_does_not_run_is_not_requeued(
    hard: bool, job: str, way_out: str, slurm: FakeSlurm
) -> None:
    with pytest.raises(UserError, match=way_out):
        requeue(run_of(job), hard=hard)
    assert orders(slurm) == []


def test_a_held_job_is_released(slurm: FakeSlurm) -> None:
    assert release(run_of("739")) == ("job 739 of 'runs/a' is released; see: ssl-zoo jobs runs/a")
    assert orders(slurm) == ["scontrol release 739"]


@pytest.mark.parametrize(
    ("job", "state"), [("727", "RUNNING: on node1"), ("744", "REQUEUED: Beg")]
)
def test_a_job_that_is_not_held_is_not_released(job: str, state: str, slurm: FakeSlurm) -> None:
    with pytest.raises(UserError, match=f"job {job} of 'runs/a' is not held: {state}"):
        release(run_of(job))
    assert orders(slurm) == []


@pytest.mark.parametrize("order", ORDERS)
def test_a_complete_run_takes_no_orders(order: object, slurm: FakeSlurm) -> None:
    run = run_of("738")
    (run / "complete.json").write_text("{}")
    assert callable(order)
    with pytest.raises(UserError, match=r"'runs/a' has no job to \w+: COMPLETE"):
        order(run)
    assert orders(slurm) == []


@pytest.mark.parametrize("order", ORDERS)
def test_a_run_without_a_job_takes_no_orders(order: object, slurm: FakeSlurm) -> None:
    run = make_run(Path("runs") / "a", started(None, host=socket.gethostname()))
    assert callable(order)
    with pytest.raises(UserError, match=r"'runs/a' has no job to \w+: LOST"):
        order(run)


@pytest.mark.parametrize("order", ORDERS)
def test_without_an_answer_of_slurm_nothing_is_done(order: object, slurm: FakeSlurm) -> None:
    slurm.lacks("squeue", "sacct")
    assert callable(order)
    with pytest.raises(UserError, match=r"cannot \w+ 'runs/a': .*squeue is not installed here"):
        order(run_of("727"))
    assert orders(slurm) == []


@pytest.mark.parametrize(("order", "job"), [(cancel, "727"), (requeue, "727"), (release, "728")])
def test_refusals_are_passed_on(order: object, job: str, slurm: FakeSlurm) -> None:
    for client in ("scancel", "scontrol"):
        slurm.says(client, err="Access/permission denied", status=1)
    assert callable(order)
    with pytest.raises(UserError, match="Access/permission denied"):
        order(run_of(job))


CONTROLLER = """
import signal, sys, time
from pathlib import Path

def again(signum, frame):
    with open(sys.argv[-1] + "/history.jsonl", "a") as file:
        file.write('{"event": "requeued", "step": 5}\\n')

signal.signal(signal.SIGUSR2, again)
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def local_run(slurm: FakeSlurm) -> Iterator[Path]:
    """A run that a process of this machine controls."""
    if not Path("/proc").is_dir():
        pytest.skip("reads command lines in /proc")
    run = (Path("runs") / "a").absolute()
    module = ["-m", "ssl_zoo.launch.controller", str(run / "submit"), str(run)]
    command = [sys.executable, "-c", CONTROLLER, *module]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    here = socket.gethostname()
    make_run(run, started(None, host=here), job=str(process.pid), launcher="local", host=here)
    yield run
    process.kill()
    assert process.wait(PATIENCE_S) == -signal.SIGTERM or process.returncode == -signal.SIGKILL
    process.stdout.close()


def test_a_local_job_is_cancelled_by_a_signal(local_run: Path) -> None:
    assert "is cancelled; nothing was saved; resume with" in cancel(local_run)
    with pytest.raises(UserError, match="'runs/a' has no job to cancel: LOST"):
        cancel(local_run)


def test_a_local_job_requeues_itself_but_is_not_killed(local_run: Path, slurm: FakeSlurm) -> None:
    assert "has requeued itself" in requeue(local_run)
    with pytest.raises(UserError, match="starting up .*try again"):
        requeue(local_run)
    with pytest.raises(UserError, match="omit --now"):
        requeue(local_run, hard=True)
    with pytest.raises(UserError, match="is not held: RUNNING: starting up on this machine"):
        release(local_run)
    assert slurm.calls() == []
