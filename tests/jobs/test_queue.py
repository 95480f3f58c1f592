"""What is asked of SLURM and how its answers are read; they were recorded from a real one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ssl_zoo.jobs import queue
from ssl_zoo.jobs.queue import Slurm, SlurmJob, expand, is_alive_here
from tests.jobs.fake_slurm import DISABLED, FakeSlurm
from tests.waiting import until


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    return FakeSlurm(tmp_path, monkeypatch)


def look(job: str) -> SlurmJob:
    return Slurm().look([job])[job]


@pytest.mark.parametrize(
    ("job", "state", "reason", "exit_code", "ended_by"),
    [
        ("724", "TIMEOUT", "TimeLimit", "0:15", ""),
        ("727", "RUNNING", "", "", ""),
        ("728", "PENDING", "JobHeldUser", "", ""),
        ("729_0", "RUNNING", "", "", ""),
        ("729_3", "PENDING", "JobArrayTaskLimit", "", ""),
        ("730", "FAILED", "NonZeroExitCode", "3:0", ""),
        ("731", "PENDING", "DependencyNeverSatisfied", "", ""),
        ("733", "FAILED", "JobLaunchFailure", "0:9", ""),
        ("736", "CANCELLED", "", "0:15", "root"),
        ("737_1", "CANCELLED", "JobHeldUser", "0:0", "root"),
        ("738", "COMPLETED", "", "0:0", ""),
        ("739", "PENDING", "job requeued in held state", "", ""),
        ("744", "PENDING", "BeginTime", "", ""),
        ("745", "RUNNING", "", "", ""),
    ],
)
@pytest.mark.usefixtures("slurm")
def test_recorded_answers_are_read(
    job: str, state: str, reason: str, exit_code: str, ended_by: str
) -> None:
    found = look(job)
    assert (found.id, found.state, found.reason) == (job, state, reason)
    assert (found.exit_code, found.ended_by) == (exit_code, ended_by)


@pytest.mark.usefixtures("slurm")
def test_a_reason_of_many_words_is_kept_whole() -> None:
    assert look("741").reason == (
        "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions"
    )


@pytest.mark.usefixtures("slurm")
def test_restarts_nodes_and_start_are_read() -> None:
    found = look("745")
    assert (found.restarts, found.nodes, found.start) == (1, "node1", "2026-11-23T04:59:10")


@pytest.mark.usefixtures("slurm")
def test_only_held_jobs_are_held() -> None:
    found = Slurm().look(["727", "728", "731", "736", "739", "742", "737_0"])
    assert {job for job, record in found.items() if record.is_held} == {"728", "739"}


def test_all_jobs_are_asked_for_in_one_call_each(slurm: FakeSlurm) -> None:
    Slurm().look(["727", "729_0", "729_3", "730", "724"])
    (squeue,) = slurm.calls("squeue")
    (sacct,) = slurm.calls("sacct")
    assert "-j 724,727,729,730 " in squeue
    assert "-j 724,730 " in sacct  # only those that have ended


def test_jobs_in_the_queue_need_no_sacct(slurm: FakeSlurm) -> None:
    assert look("727").state == "RUNNING"
    assert slurm.calls("sacct") == []


def test_no_jobs_need_no_slurm(slurm: FakeSlurm) -> None:
    assert Slurm().look([]) == {}
    assert slurm.calls() == []


def test_what_squeue_forgot_is_known_to_sacct(slurm: FakeSlurm) -> None:
    for job, state, code in (("724", "TIMEOUT", "0:0"), ("730", "FAILED", "3:0")):
        slurm.forgets(job)
        assert (look(job).state, look(job).exit_code) == (state, code)


def test_a_point_that_never_started_is_found_in_the_record_of_its_array(slurm: FakeSlurm) -> None:
    slurm.says("squeue")
    assert (look("737_1").state, look("737_1").ended_by) == ("CANCELLED", "root")


def test_of_several_records_the_last_start_counts(slurm: FakeSlurm) -> None:
    slurm.says("squeue")
    slurm.says(
        "sacct",
        "7|FAILED|1:0|2026-11-23T04:00:00|2026-11-23T05:00:00|node1\n"
        "7|PREEMPTED|0:0|2026-11-23T03:00:00|2026-11-23T03:00:01|node1\n"
        "7|NODE_FAIL|0:0|2026-11-23T03:30:00|2026-11-23T03:30:01|node2",
    )
    assert (look("7").state, look("7").restarts) == ("FAILED", 2)


@pytest.mark.parametrize("state", ["NODE_FAIL", "PREEMPTED", "TIMEOUT", "REQUEUED"])
def test_an_end_in_sacct_is_none_while_the_job_is_in_the_queue(
    state: str, slurm: FakeSlurm
) -> None:
    slurm.says("sacct", f"744|{state}|0:0|2026-11-23T04:58:59|2026-11-23T04:59:00|node2")
    assert (look("744").state, look("744").is_active) == ("PENDING", True)


def test_a_job_that_only_sacct_takes_for_running_is_not_known(slurm: FakeSlurm) -> None:
    slurm.forgets("727")
    assert Slurm().look(["727"]) == {}


def test_where_squeue_is_silent_sacct_is_believed(slurm: FakeSlurm) -> None:
    slurm.says("squeue", err="slurm_load_jobs error: Unable to contact slurm controller", status=1)
    asked = Slurm()
    assert asked.look(["727"])["727"].state == "RUNNING"
    assert asked.is_silent
    assert "Unable to contact slurm controller" in asked.problems["squeue"]


def test_an_unknown_job_is_no_failure_of_squeue(slurm: FakeSlurm) -> None:
    slurm.says("squeue", err="slurm_load_jobs error: Invalid job id specified", status=1)
    asked = Slurm()
    assert asked.look(["999"]) == {}
    assert not asked.is_silent


def test_sacct_that_does_not_work_is_asked_once_and_named(slurm: FakeSlurm) -> None:
    slurm.says("sacct", err=DISABLED, status=1)
    asked = Slurm()
    for _ in range(3):
        assert asked.look(["730"])["730"].state == "FAILED"  # squeue still remembers it
    assert len(slurm.calls("sacct")) == 1
    assert asked.problems["sacct"].startswith(f"sacct: {DISABLED}; ")


@pytest.mark.parametrize("client", ["squeue", "sacct"])
def test_a_client_that_is_not_installed_is_named(client: str, slurm: FakeSlurm) -> None:
    slurm.lacks(client)
    asked = Slurm()
    asked.look(["730"])
    assert list(asked.problems) == [client]
    assert asked.problems[client].startswith(f"{client} is not installed here")


def test_a_client_that_hangs_is_left_alone(
    slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "CLIENT_SECONDS", 0.3)
    slurm.hangs("sacct")
    asked = Slurm()
    assert asked.look(["730"])["730"].state == "FAILED"
    assert "sacct did not answer within 0.3 s" in asked.problems["sacct"]


def test_habits_of_people_hide_no_jobs(slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQUEUE_USERS", "somebody")
    monkeypatch.setenv("SCANCEL_INTERACTIVE", "true")
    slurm.says("squeue", then='[ -z "$SQUEUE_USERS$SCANCEL_INTERACTIVE" ] || exit 3')
    asked = Slurm()
    asked.look(["727"])
    assert asked.problems == {}


@pytest.mark.parametrize(
    ("ids", "jobs"),
    [
        ("12", ["12"]),
        ("12_3", ["12_3"]),
        ("12_[3-5%2]", ["12_3", "12_4", "12_5"]),
        ("12_[0,3-4,8]", ["12_0", "12_3", "12_4", "12_8"]),
        ("12_[0-6:3%1]", ["12_0", "12_3", "12_6"]),
    ],
)
def test_ids_of_arrays_are_expanded(ids: str, jobs: list[str]) -> None:
    assert expand(ids) == jobs


CONTROLLER = "import sys, time; time.sleep(600)"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads command lines in /proc")
def test_a_local_job_lives_as_long_as_its_controller_in_this_folder(tmp_path: Path) -> None:
    run, other = tmp_path / "run", tmp_path / "run2"
    arguments = ["-m", "ssl_zoo.launch.controller", str(run / "submit"), "3", "name"]
    process = subprocess.Popen([sys.executable, "-c", CONTROLLER, *arguments])
    try:
        until(lambda: is_alive_here(str(process.pid), run))
        assert not is_alive_here(str(process.pid), other)
        assert not is_alive_here(str(os.getpid()), run)
    finally:
        process.kill()
    # A zombie until somebody waits for it.
    until(lambda: not is_alive_here(str(process.pid), run))
    process.wait()
    assert not is_alive_here(str(process.pid), run)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads command lines in /proc")
def test_a_local_job_lives_also_while_its_shell_sets_up(tmp_path: Path) -> None:
    line = f"sleep 600; exec python -m ssl_zoo.launch.controller {tmp_path}/run/submit 3 name"
    process = subprocess.Popen(["sh", "-c", line], start_new_session=True)
    try:
        until(lambda: is_alive_here(str(process.pid), tmp_path / "run"))
        assert not is_alive_here(str(process.pid), tmp_path / "other")
    finally:
        os.killpg(process.pid, 9)
        process.wait()
