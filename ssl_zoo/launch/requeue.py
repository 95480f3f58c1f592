"""Whether and how a job that was asked to stop, and has saved, is requeued."""

import os
import signal
import subprocess
import sys
import time

from ssl_zoo.errors import UserError
from ssl_zoo.jobs.queue import ClientError, call
from ssl_zoo.runs.history import Event, History
from ssl_zoo.runs.job import Job, current_job
from ssl_zoo.training.signals import StopRequest

BARREN_STARTS = 3
"""Number of consecutive starts without a new checkpoint after which the job gives up."""
SECONDS_TO_BE_KILLED = 120.0
"""Seconds that ranks wait for SLURM to end them after the job was requeued."""
REQUEUE_ATTEMPTS = 3
SECONDS_BETWEEN_ATTEMPTS = 2.0
LATER = 75
"""Exit status of a job that resumes later: EX_TEMPFAIL of sysexits.h. SLURM ignores it."""
NOT_AGAIN = 128 + signal.SIGUSR2
"""Exit status of a job that should be requeued, but cannot be."""


def refuse_in_vain(history: History, saved_step: int) -> None:
    """Stops a job that restarts repeatedly without making progress.

    Raises:
        UserError: the last starts of this job all began at the currently saved step.
    """
    silent: list[int] = []  # steps of the last starts that ended without an event
    for event in history.since_submission():
        if event.event == "started":
            silent.append(event.step or 0)
        elif event.event in ("stopped", "requeued"):
            silent.clear()
    if len(silent) >= BARREN_STARTS and set(silent[-BARREN_STARTS:]) == {saved_step}:
        reason = (
            f"{BARREN_STARTS} starts in a row began at step {saved_step} and saved nothing further; "
            "check the log for the cause or shorten checkpoint.every, then submit again"
        )
        history.add(Event("stopped", step=saved_step, reason=reason))
        raise UserError.everywhere(reason)


def end(history: History, max_requeues: int, step: int | None, request: StopRequest) -> int:
    """Ends a job that has saved, and requeues it if the signal asked for that.

    All ranks must call it; rank 0 acts.

    Returns:
        The exit status, unless the launcher ends the process first.
    """
    job = current_job()
    if os.environ.get("SUBMITIT_EXECUTOR") == "local" and signal.SIGUSR2 in request.seen:
        return _requeue_locally(history, max_requeues, step)
    if job is None:  # no launcher that could restart it
        return 128 + request.signum
    if os.environ.get("RANK", "0") == "0":
        if not _goes_on(job, request):
            return 128 + request.signum
        problem = _over_budget(job.restart, max_requeues) or _requeue(history, job, step)
        if problem:
            _give_up(history, step, problem)
            return NOT_AGAIN
    else:
        # Ignore a TERM from before: exiting now would end rank 0 as well.
        request.seen.discard(signal.SIGTERM)
    # SLURM now ends all ranks; otherwise rank 0 exits, which ends the others.
    deadline = time.monotonic() + SECONDS_TO_BE_KILLED
    while signal.SIGTERM not in request.seen and time.monotonic() < deadline:
        time.sleep(0.05)
    return LATER


def _goes_on(job: Job, request: StopRequest) -> bool:
    """Returns whether the job should be requeued.

    USR2 alone means yes: the time limit is near, or the job is being preempted. TERM is sent when
    a job is cancelled or requeued by others, but also, on sites that do not send the user's
    signal, as notice of a preemption; in that case SLURM still reports the job as running.
    """
    if signal.SIGTERM not in request.seen:
        return signal.SIGUSR2 in request.seen
    try:
        state = call("squeue", "--noheader", "--jobs", job.id, "--format", "%T", seconds=60)
    except ClientError:
        return False
    return state.strip() in {"RUNNING", "SIGNALING"}


def _over_budget(restarts: int, max_requeues: int) -> str:
    if restarts < max_requeues:
        return ""
    return (
        f"saved, but not requeued: the job was restarted {restarts} times, and "
        f"slurm.max_requeues is {max_requeues}; submit again to resume"
    )


def _requeue(history: History, job: Job, step: int | None) -> str:
    """Requeues the job; returns why if that was not possible."""
    history.add(
        Event("requeued", step=step)
    )  # first, because the process may be ended at any moment afterwards
    said = ""
    for attempt in range(REQUEUE_ATTEMPTS):
        if attempt:
            time.sleep(SECONDS_BETWEEN_ATTEMPTS)
        try:
            done = _slurm("scontrol", "requeue", job.id)
        except (OSError, subprocess.TimeoutExpired) as error:
            said = str(error)
            continue
        said = done.stderr.strip()
        # Ended by its own requeue request, or SLURM was faster: both are success.
        if done.returncode <= 0 or "pending" in said.lower():
            return ""
    return f"saved, but SLURM does not requeue job {job.id}: {said}; submit again to resume"


def _requeue_locally(history: History, max_requeues: int, step: int | None) -> int:
    from submitit.local.local import LOCAL_REQUEUE_RETURN_CODE

    restarts = sum(event.event == "requeued" for event in history.since_submission())
    problem = _over_budget(restarts, max_requeues)
    if os.environ.get("RANK", "0") == "0":
        if problem:
            _give_up(history, step, problem)
        else:
            history.add(Event("requeued", step=step))
    return NOT_AGAIN if problem else int(LOCAL_REQUEUE_RETURN_CODE)


def _give_up(history: History, step: int | None, problem: str) -> None:
    history.add(Event("stopped", step=step, reason=problem))
    print(f"ssl-zoo: {problem}", file=sys.stderr, flush=True)


def _slurm(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, timeout=60)
