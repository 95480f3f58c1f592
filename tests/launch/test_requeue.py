"""When a job that has saved is started again, seen through a fake scontrol and squeue."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ssl_zoo.errors import UserError
from ssl_zoo.launch import requeue
from ssl_zoo.runs.history import Event, History
from ssl_zoo.training.signals import StopRequest
from tests.waiting import PATIENCE_S, until


class Cluster:
    """Fake clients of SLURM that write down how they were called."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls_file = folder / "bin", folder / "calls"
        self.folder.mkdir()
        self.scontrol("exit 0")
        self.squeue("echo RUNNING")

    def scontrol(self, then: str) -> None:
        self._client("scontrol", then)

    def squeue(self, then: str) -> None:
        self._client("squeue", then)

    def _client(self, name: str, then: str) -> None:
        file = self.folder / name
        file.write_text(f'#!/bin/sh\necho "{name} $*" >>{self.calls_file}\n{then}\n')
        file.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        return self.calls_file.read_text().splitlines() if self.calls_file.exists() else []


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    found = Cluster(tmp_path)
    monkeypatch.setenv("PATH", f"{found.folder}{os.pathsep}{os.environ['PATH']}")
    for name, value in {"SLURM_JOB_ID": "12", "SUBMITIT_EXECUTOR": "slurm", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    monkeypatch.setattr(requeue, "SECONDS_TO_BE_KILLED", 0.1)
    monkeypatch.setattr(requeue, "SECONDS_BETWEEN_ATTEMPTS", 0.0)
    return found


def asked(*signals: int) -> StopRequest:
    request = StopRequest()
    for signum in signals:
        request(signum, None)
    return request


def events(folder: Path) -> list[str]:
    return [event.event for event in History(folder).read()]


def test_usr2_requeues(cluster: Cluster, tmp_path: Path) -> None:
    assert requeue.end(History(tmp_path), 3, 40, asked(signal.SIGUSR2)) == requeue.LATER
    assert cluster.calls == ["scontrol requeue 12"]
    (event,) = History(tmp_path).read()
    assert (event.event, event.step, event.job) == ("requeued", 40, "12")


def test_only_the_point_of_an_array_is_requeued(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last point of an array bears the array's own number."""
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "12")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "5")
    requeue.end(History(tmp_path), 3, 40, asked(signal.SIGUSR2))
    assert cluster.calls == ["scontrol requeue 12_5"]


def test_other_ranks_leave_it_to_rank_0(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert requeue.end(History(tmp_path), 3, 40, asked(signal.SIGUSR2)) == requeue.LATER
    assert (cluster.calls, events(tmp_path)) == ([], [])


@pytest.mark.parametrize("signals", [(signal.SIGTERM,), (signal.SIGUSR2, signal.SIGTERM)])
def test_other_ranks_stay_until_slurm_or_rank_0_ends_them(
    signals: tuple[int, ...], cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that left on the TERM which all got would take rank 0 along before it has requeued."""
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(requeue, "SECONDS_TO_BE_KILLED", 10 * PATIENCE_S)
    request = asked(*signals)
    with ThreadPoolExecutor() as pool:
        end = pool.submit(requeue.end, History(tmp_path), 3, 40, request)
        until(lambda: signal.SIGTERM not in request.seen, "it is past the TERM that all got")
        assert not end.done()
        request(signal.SIGTERM, None)  # now SLURM ends the job
        assert end.result(PATIENCE_S) == requeue.LATER


@pytest.mark.parametrize("state", ["", "COMPLETING", "PENDING", "CANCELLED", "PREEMPTED"])
@pytest.mark.parametrize("signals", [(signal.SIGTERM,), (signal.SIGUSR2, signal.SIGTERM)])
def test_a_job_that_slurm_is_ending_is_not_requeued(
    signals: tuple[int, ...], state: str, cluster: Cluster, tmp_path: Path
) -> None:
    """It was cancelled, which must last, or SLURM has requeued it already."""
    cluster.squeue(f"echo {state}")
    request = asked(*signals)
    assert requeue.end(History(tmp_path), 3, 40, request) == 128 + request.signum
    assert not any(call.startswith("scontrol") for call in cluster.calls)


def test_term_in_a_running_job_is_the_notice_of_a_preemption(
    cluster: Cluster, tmp_path: Path
) -> None:
    assert requeue.end(History(tmp_path), 3, 40, asked(signal.SIGTERM)) == requeue.LATER
    assert cluster.calls[-1] == "scontrol requeue 12"


def test_without_an_answer_of_squeue_term_ends_the_job(cluster: Cluster, tmp_path: Path) -> None:
    cluster.squeue("exit 1")
    assert requeue.end(History(tmp_path), 3, 40, asked(signal.SIGTERM)) == 143


@pytest.mark.parametrize(
    "then",
    ["kill -TERM $$", "echo 'Job is pending execution' >&2; exit 1"],
    ids=["killed", "late"],
)
def test_slurm_may_be_first(then: str, cluster: Cluster, tmp_path: Path) -> None:
    """Requeueing kills the very process that asks for it; or preemption has requeued the job."""
    cluster.scontrol(then)
    assert requeue.end(History(tmp_path), 3, 40, asked(signal.SIGUSR2)) == requeue.LATER
    assert events(tmp_path) == ["requeued"]


def test_a_controller_that_is_away_for_a_moment_is_asked_again(
    cluster: Cluster, tmp_path: Path
) -> None:
    cluster.scontrol(f"[ -e {tmp_path}/again ] && exit 0; touch {tmp_path}/again; exit 1")
    assert requeue.end(History(tmp_path), 3, 40, asked(signal.SIGUSR2)) == requeue.LATER
    assert len(cluster.calls) == 2


def test_a_refusal_is_reported(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.scontrol("echo 'Requested operation is presently disabled' >&2; exit 1")
    assert requeue.end(History(tmp_path), 3, 40, asked(signal.SIGUSR2)) == 128 + signal.SIGUSR2
    assert events(tmp_path) == ["requeued", "stopped"]
    said = capsys.readouterr().err
    assert "SLURM does not requeue job 12: Requested operation is presently disabled" in said


def test_there_is_a_budget(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    assert requeue.end(History(tmp_path), 3, 40, asked(signal.SIGUSR2)) == requeue.LATER
    monkeypatch.setenv("SLURM_RESTART_COUNT", "3")
    assert requeue.end(History(tmp_path), 3, 50, asked(signal.SIGUSR2)) == 128 + signal.SIGUSR2
    assert len(cluster.calls) == 1
    last = History(tmp_path).read()[-1]
    assert last.event == "stopped"
    assert "slurm.max_requeues is 3" in (last.reason or "")


def test_on_this_machine_submitit_starts_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "local")
    history = History(tmp_path)
    history.add(Event("submitted", job="99", launcher="local"))
    statuses = [requeue.end(history, 2, 40, asked(signal.SIGUSR2)) for _ in range(3)]
    assert statuses == [144, 144, 128 + signal.SIGUSR2]  # 144: LOCAL_REQUEUE_RETURN_CODE


def test_outside_of_a_job_nothing_is_asked(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLURM_JOB_ID")
    monkeypatch.delenv("SUBMITIT_EXECUTOR")
    assert requeue.end(History(tmp_path), 3, 40, asked(signal.SIGTERM)) == 143
    assert (cluster.calls, events(tmp_path)) == ([], [])


def test_starts_that_get_nowhere_come_to_an_end(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.add(Event("submitted", job="12"))
    for _ in range(requeue.BARREN_STARTS):
        requeue.refuse_in_vain(history, 40)
        history.add(Event("started", step=40))
    requeue.refuse_in_vain(history, 41)  # one step further is further
    with pytest.raises(UserError, match="3 starts in a row began at step 40 and saved nothing"):
        requeue.refuse_in_vain(history, 40)
    assert events(tmp_path)[-1] == "stopped"
    history.add(Event("stopped", step=40))
    history.add(Event("started", step=40))
    requeue.refuse_in_vain(history, 40)  # one that was asked to go is not a bad start
    history.add(Event("submitted", job="13"))
    requeue.refuse_in_vain(history, 40)  # whoever submits again has mended something
