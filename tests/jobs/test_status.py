"""How runs are, from what SLURM says and what their folders hold."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ssl_zoo.jobs.queue import Slurm
from ssl_zoo.jobs.status import RunStatus, status, statuses
from tests.jobs.fake_slurm import (
    DISABLED,
    FakeSlurm,
    add,
    make_run,
    started,
    write_log,
)

OVER_MEMORY = "StepId=732.0 exceeded memory limit (313749504 > 104857600), being killed"


KILLED_RANK = (
    "srun: error: node1: task 1: Killed",
    "srun: launch/slurm: _step_signal: Terminating StepId=730.0",
    "slurmstepd-node1: error: *** STEP 730.0 ON node1 CANCELLED AT 2026-11-23T04:38:15 ***",
    "srun: error: node1: task 0: Terminated",
)


TRACEBACK = (
    "Traceback (most recent call last):",
    '  File "x.py", line 1, in <module>',
    "    import nothing",
    "ModuleNotFoundError: No module named 'nothing'",
)


LOST_PEER = "RuntimeError: [gloo] Connection closed by peer [127.0.0.1]:4242"


def failed(job: str, reason: str, rank: int = 0) -> dict[str, Any]:
    return {"event": "failed", "job": job, "restart": 0, "reason": reason, "rank": rank}


def stopped(job: str | None, reason: str, step: int | None = 7) -> dict[str, Any]:
    return {"event": "stopped", "job": job, "restart": 0, "reason": reason, "step": step}


@pytest.mark.parametrize(
    ("job", "state", "reason"),
    [
        ("728", "PENDING", "held (JobHeldUser); release it with: ssl-zoo release a"),
        (
            "739",
            "REQUEUED",
            "held (job requeued in held state); release it with: ssl-zoo release a",
        ),
        ("744", "REQUEUED", "BeginTime: cannot start before 2026-11-23T04:59:17"),
        ("740", "PENDING", "BeginTime: cannot start before 2026-11-23T05:58:32"),
        (
            "742",
            "PENDING",
            "Resources: waits for free nodes, expected start 2027-11-23T04:58:36",
        ),
        (
            "731",
            "PENDING",
            "DependencyNeverSatisfied: the job it waits for did not complete; "
            "cancel it with: ssl-zoo cancel a",
        ),
        (
            "729_3",
            "PENDING",
            "JobArrayTaskLimit: waits for other points of its sweep (slurm.array_parallelism)",
        ),
        ("727", "RUNNING", "starting up on node1"),
    ],
)
def test_a_queued_job_has_the_state_of_squeue(
    job: str, state: str, reason: str, how: Callable[..., RunStatus]
) -> None:
    found = how(job)
    assert (found.state, found.reason, found.job) == (state, reason, job)
    assert not found.is_over
    assert not found.has_failed


def test_a_reason_without_words_of_ours_is_passed_on(how: Callable[..., RunStatus]) -> None:
    assert how("741").reason.startswith("Nodes required for job are DOWN")


def test_a_training_job_shows_its_nodes(how: Callable[..., RunStatus]) -> None:
    assert how("727", started("727")).reason == "on node1"


def test_a_job_that_was_started_again_is_starting_up_until_it_trains(
    how: Callable[..., RunStatus], tmp_path: Path
) -> None:
    found = how("745", started("745"))
    assert (found.reason, found.requeues) == ("starting up on node1", 1)
    add(found.folder, started("745", restart=1))
    assert status(found.folder).reason == "on node1"


def test_the_queue_takes_precedence_over_the_history(how: Callable[..., RunStatus]) -> None:
    found = how("744", started("744"), failed("744", "AnyError: in the start before"))
    assert (found.state, found.is_over) == ("REQUEUED", False)


def test_a_complete_run_stays_complete(how: Callable[..., RunStatus]) -> None:
    found = how("730", started("730"), failed("730", "while it left"))
    (found.folder / "complete.json").write_text("{}")
    found = status(found.folder)
    assert (found.state, found.is_over, found.has_failed) == ("COMPLETE", True, False)


def test_a_job_that_ended_well_without_completing_its_run_is_not_complete(
    how: Callable[..., RunStatus],
) -> None:
    found = how("738", started("738"))
    assert (found.state, found.has_failed) == ("INCOMPLETE", True)
    assert "without an error" in found.reason


def test_a_job_that_ended_well_after_a_stop_has_stopped(how: Callable[..., RunStatus]) -> None:
    found = how("738", started("738"), stopped("738", "saved, but not requeued: budget"))
    assert (found.state, found.reason) == ("STOPPED", "saved, but not requeued: budget")


def test_a_cancelled_job_shows_by_whom_and_what_was_saved(how: Callable[..., RunStatus]) -> None:
    found = how("736", started("736"), stopped("736", "SIGTERM", 120))
    assert (found.state, found.has_failed) == ("CANCELLED", True)
    assert found.reason == "cancelled by root; asked to stop (SIGTERM), saved at step 120"


def test_a_job_cancelled_before_it_started_shows_by_whom(how: Callable[..., RunStatus]) -> None:
    assert how("737_2").reason == "cancelled by root"


@pytest.mark.parametrize(
    ("job", "log", "reason"),
    [
        (
            "732",
            (OVER_MEMORY, "srun: error: node1: task 0: Killed"),
            "out of memory (slurm.mem_gb)",
        ),
        ("730", ("slurmstepd: error: Detected 1 oom-kill event",), "1 oom-kill event"),
        (
            "724",
            ("*** JOB 724 ON n1 CANCELLED AT 2026 DUE TO TIME LIMIT ***",),
            "due to time limit",
        ),
        ("730", ("*** STEP 730.0 ON n1 CANCELLED AT 2 DUE TO NODE FAILURE ***",), "node failure"),
        ("730", KILLED_RANK, "node1: task 1: Killed"),
        ("730", ("ssl-zoo: unknown method 'x'", "srun: got SIGCONT"), "unknown method 'x'"),
        ("730", TRACEBACK, "ModuleNotFoundError: No module named 'nothing'"),
        (
            "730",
            ("srun: error: node1: task 0: Exited with exit code 7", *TRACEBACK),
            TRACEBACK[-1],
        ),
        (
            "730",
            ("sh: no python", "srun: error: node1: task 0: Exited with exit code 127"),
            "node1: task 0: Exited with exit code 127; the log ends with: sh: no python",
        ),
        ("730", ("echo", "no such module"), "exit status 3; the log ends with: no such module"),
        ("730", ("2026-11-23 05:00:28,099 step 30 of 1760",), "exit status 3"),
        ("730", (), "exit status 3"),
        ("733", (), "killed by signal 9"),
        ("724", (), "the time limit was reached before saving finished (slurm.signal_delay_s)"),
    ],
)
def test_without_an_event_in_the_history_the_log_gives_the_cause(
    job: str, log: tuple[str, ...], reason: str, how: Callable[..., RunStatus]
) -> None:
    found = how(job, started(job), log=log)
    assert found.state in ("FAILED", "TIMEOUT")
    assert found.reason.endswith(reason) or (job != "730" and reason in found.reason)


def test_an_error_in_the_history_gives_the_cause_and_the_rank(
    how: Callable[..., RunStatus],
) -> None:
    found = how("730", started("730"), failed("730", "OSError: no space", 1), log=TRACEBACK)
    assert (found.state, found.reason) == ("FAILED", "rank 1: OSError: no space")


def test_a_lost_connection_is_not_the_cause_when_a_rank_was_killed(
    how: Callable[..., RunStatus],
) -> None:
    found = how("730", started("730"), failed("730", LOST_PEER), log=KILLED_RANK)
    assert found.reason == "node1: task 1: Killed"


def test_a_lost_connection_is_not_the_cause_when_another_rank_failed_first_or_later(
    how: Callable[..., RunStatus],
) -> None:
    found = how("730", started("730"), failed("730", LOST_PEER), failed("730", "ValueError: x", 1))
    assert found.reason == "rank 1: ValueError: x"


def test_a_lost_connection_is_not_the_cause_when_a_rank_ended_silently(
    how: Callable[..., RunStatus],
) -> None:
    log = tuple(f"srun: error: node1: task {n}: Exited with exit code 3" for n in (1, 0))
    found = how("730", started("730"), failed("730", LOST_PEER), log=log)
    assert found.reason == "node1: task 1: Exited with exit code 3"


def test_a_lost_connection_is_shown_when_nothing_else_is_known(
    how: Callable[..., RunStatus],
) -> None:
    assert how("730", started("730"), failed("730", LOST_PEER)).reason == LOST_PEER


def test_errors_of_earlier_starts_are_not_the_cause(how: Callable[..., RunStatus]) -> None:
    start = "submitit INFO - Starting with JobEnvironment(job_id=730)"
    log = (start, *KILLED_RANK, start, "ssl-zoo: the second start's error")
    events = (started("730"), failed("730", "the first one's"), started("730", restart=1))
    assert how("730", *events, log=log).reason == "the second start's error"


def test_a_silent_start_is_not_explained_by_the_previous_one(
    slurm: FakeSlurm, how: Callable[..., RunStatus]
) -> None:
    slurm.says(
        "sacct",
        "750|REQUEUED|0:0|2026-11-23T04:00:00|2026-11-23T04:00:01|node1\n"
        "750|FAILED|4:0|2026-11-23T04:01:00|2026-11-23T04:01:01|node1",
    )
    found = how("750", started("750"), stopped("750", "SIGUSR2"))
    assert (found.state, found.reason) == ("FAILED", "exit status 4")


def test_the_log_of_every_rank_is_read(how: Callable[..., RunStatus]) -> None:
    found = how("730", started("730"), log=(LOST_PEER,))
    write_log(found.folder, "730", *TRACEBACK, rank=1)
    assert status(found.folder).reason == TRACEBACK[-1]


def test_the_log_of_a_sweeps_point_is_not_that_of_another(how: Callable[..., RunStatus]) -> None:
    found = how("730", started("730"))
    write_log(found.folder, "730_0", "ssl-zoo: of an array")  # not rank 0 of 730
    assert status(found.folder).reason == "exit status 3"


def test_a_job_that_nobody_knows_is_lost(slurm: FakeSlurm, how: Callable[..., RunStatus]) -> None:
    found = how("999", started("999"))
    assert (found.state, found.is_over, found.has_failed) == ("LOST", True, True)
    assert found.reason == "job 999 is not in the queue, and sacct has no record of it"
    slurm.says("sacct", err=DISABLED, status=1)
    assert status(found.folder).reason == "job 999 is not in the queue, and sacct is not available"


@pytest.mark.parametrize(("event", "state"), [("stopped", "STOPPED"), ("failed", "FAILED")])
def test_without_sacct_the_history_tells_the_end(
    event: str, state: str, slurm: FakeSlurm, how: Callable[..., RunStatus]
) -> None:
    slurm.says("sacct", err=DISABLED, status=1)
    found = how("999", started("999"), {"event": event, "job": "999", "reason": "because"})
    assert (found.state, found.reason) == (state, "because")


@pytest.mark.parametrize("is_down", [False, True])
def test_a_job_that_cannot_be_asked_for_is_not_called_lost(
    is_down: bool, slurm: FakeSlurm, how: Callable[..., RunStatus]
) -> None:
    slurm.lacks("sacct", "squeue")
    if is_down:
        slurm.says("squeue", err="slurm_load_jobs error: Unable to contact controller", status=1)
    found = how("727", started("727"))
    assert (found.state, found.is_over) == ("UNKNOWN", False)
    assert "job 727 cannot be queried: squeue" in found.reason


def test_all_runs_are_asked_for_at_once(slurm: FakeSlurm, tmp_path: Path) -> None:
    runs = [make_run(tmp_path / job, job=job) for job in ("727", "730", "738", "999")]
    found = statuses([*runs, make_run(tmp_path / "here")])
    assert [each.state for each in found] == [
        "RUNNING",
        "FAILED",
        "INCOMPLETE",
        "LOST",
        "NOT STARTED",
    ]
    assert [call.split()[0] for call in slurm.calls()] == ["squeue", "sacct"]


def test_runs_without_jobs_need_no_slurm(slurm: FakeSlurm, tmp_path: Path) -> None:
    slurm.lacks()
    asked = Slurm()
    assert status(make_run(tmp_path / "a"), asked).state == "NOT STARTED"
    assert asked.problems == {}


def test_a_scoring_job_is_complete_when_it_has_a_result(how: Callable[..., RunStatus]) -> None:
    found = how("730", started("730", total_steps=None))
    (found.folder / "evaluate.json").write_text("{}")
    (found.folder / "complete.json").write_text("{}")  # of no meaning here
    assert status(found.folder).state == "FAILED"
    (found.folder / "evaluation.json").write_text("{}")
    assert status(found.folder).state == "COMPLETE"


def test_requeues_are_counted_by_history_or_by_slurm(how: Callable[..., RunStatus]) -> None:
    again = {"event": "requeued", "job": "744", "restart": 0, "step": 5}
    assert how("744", started("744"), again).requeues == 1
    run = make_run(Path(os.environ["SSL_ZOO_RUNS"]) / "b", again, again, job="744")
    assert status(run).requeues == 2


def test_an_earlier_submission_does_not_count(slurm: FakeSlurm, tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", started("744"), {"event": "requeued"}, job="744")
    add(run, {"event": "submitted", "job": "727", "launcher": "slurm", "restart": None})
    found = status(run)
    assert (found.job, found.requeues, found.reason) == ("727", 0, "starting up on node1")
