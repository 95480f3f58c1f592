"""How runs are: what SLURM says of their jobs, and what their folders tell where it says nothing."""

import os
import socket
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ssl_zoo.jobs.causes import cause, leaving, log_end
from ssl_zoo.jobs.finding import run_name
from ssl_zoo.jobs.progress import progress
from ssl_zoo.jobs.queue import Slurm, SlurmJob, is_alive_here
from ssl_zoo.runs.history import Event, History

WAITING = {
    "BeginTime": "may not start before {start}",
    "Dependency": "waits for another job",
    "DependencyNeverSatisfied": "the job it waits for did not complete; "
    "give up with: ssl-zoo cancel {run}",
    "JobArrayTaskLimit": "waits for other points of its sweep (slurm.array_parallelism)",
    "PartitionDown": "the partition is down",
    "PartitionNodeLimit": "asks for more nodes than the partition allows",
    "PartitionTimeLimit": "asks for more time than the partition allows (slurm.timeout_min)",
    "Priority": "other jobs come first",
    "Resources": "waits for free nodes",
}
"""SLURM's reasons for waiting, in words."""
STARTING = "starting up"
"""What is said of a job that runs and does not train yet."""
ENDED = {
    "BOOT_FAIL": "a node did not start",
    "DEADLINE": "its deadline passed",
    "NODE_FAIL": "a node failed, and SLURM did not requeue the job",
    "OUT_OF_MEMORY": "out of memory (slurm.mem_gb)",
    "PREEMPTED": "preempted, and SLURM did not requeue the job",
    "TIMEOUT": "the time limit came before everything was saved (slurm.signal_delay_s)",
}
"""SLURM's ends, in words, where neither history nor log tell more."""


@dataclass(frozen=True)
class RunStatus:
    """How a run is.

    Attributes:
        folder: the run folder, or the folder of a scoring job.
        name: what commands call it.
        job: the launcher's number; None for a run that was not submitted.
        launcher: `slurm` or `local`; empty where `job` is None.
        state: one of SLURM's states; REQUEUED, a pending job that ran before; COMPLETE; STOPPED, it
            saved and left; INCOMPLETE, its job ended well but the run did not; LOST, it was started
            and is gone; UNKNOWN, it may run where we cannot see it; NOT STARTED.
        reason: why, in words.
        requeues: how often the job was started again.
        checkpoint_age_s: seconds since the newest checkpoint was written.
        eta_s: seconds to the end; None unless it is running.
        is_over: nothing will come of it by itself.
        has_failed: it is over, was started, and is not complete.
    """

    folder: Path
    name: str
    job: str | None
    launcher: str
    state: str
    reason: str
    requeues: int
    step: int | None
    total_steps: int | None
    checkpoint_step: int | None
    checkpoint_age_s: float | None
    images_per_second: float | None
    eta_s: float | None
    is_over: bool
    has_failed: bool


@dataclass(frozen=True)
class _Run:
    """A run folder and what its history says.

    Attributes:
        events: since the newest submission.
        job: None for one that was trained in a terminal since.
        launcher: `slurm` or `local`; empty for one trained in a terminal.
    """

    folder: Path
    events: list[Event]
    job: str | None
    launcher: str
    host: str

    @property
    def is_complete(self) -> bool:
        is_scoring = (self.folder / "evaluate.json").is_file()
        return (self.folder / ("evaluation.json" if is_scoring else "complete.json")).is_file()

    @property
    def name(self) -> str:
        return run_name(self.folder)


def status(folder: Path, slurm: Slurm | None = None) -> RunStatus:
    """Returns how one run is."""
    return statuses([folder], slurm)[0]


def statuses(folders: Iterable[Path], slurm: Slurm | None = None) -> list[RunStatus]:
    """Returns how runs are, asking squeue and sacct once for all.

    Args:
        slurm: keeps in mind which of SLURM's clients work, and says it; share it between calls.
    """
    slurm = slurm or Slurm()
    runs = [_read(folder) for folder in folders]
    known = slurm.look(run.job for run in runs if run.job and run.launcher == "slurm")
    return [_status(run, slurm, known.get(run.job or "")) for run in runs]


def _read(folder: Path) -> _Run:
    events = History(folder).since_submission()
    submitted = events[0] if events and events[0]["event"] == "submitted" else {}
    started = next((e for e in reversed(events) if e["event"] == "started"), {})
    job, launcher = submitted.get("job"), str(submitted.get("launcher") or "")
    if launcher == "debug":  # in the process that submitted it
        job, launcher = None, ""
    ours = {event.get("job") for event in events if event["event"] == "submitted"}
    if started.get("job") in ours - {None}:
        job, launcher = started["job"], "slurm"
    elif started and launcher != "local":  # a later start in a terminal
        job, launcher = None, ""
    host = str(started.get("host") or submitted.get("host") or "")
    if launcher == "local":
        host = str(submitted.get("host") or host)
    return _Run(folder, events, str(job) if job else None, launcher, host)


def _status(run: _Run, slurm: Slurm, known: SlurmJob | None) -> RunStatus:
    state, reason = _state(run, slurm, known)
    reached = progress(run.folder, History(run.folder).read())
    requeued = sum(event["event"] == "requeued" for event in run.events)
    restarts = [int(event.get("restart") or 0) for event in run.events]
    is_over = not (known and known.is_active) and state not in ("RUNNING", "UNKNOWN")
    is_over = is_over or state == "COMPLETE"
    trains = state == "RUNNING" and not reason.startswith(STARTING)
    return RunStatus(
        folder=run.folder,
        name=run.name,
        job=run.job,
        launcher=run.launcher,
        state=state,
        reason=reason,
        requeues=max([requeued, known.restarts if known else 0, *restarts]),
        step=reached.step,
        total_steps=reached.total_steps,
        checkpoint_step=reached.checkpoint_step,
        checkpoint_age_s=reached.checkpoint_age_s,
        images_per_second=reached.images_per_second if trains else None,
        eta_s=reached.eta_s if trains else None,
        is_over=is_over,
        has_failed=is_over and state not in ("COMPLETE", "NOT STARTED"),
    )


def _state(run: _Run, slurm: Slurm, known: SlurmJob | None) -> tuple[str, str]:
    """Returns state and reason; the first that can be said, from the surest to the least sure."""
    if run.is_complete:
        return "COMPLETE", ""
    if known and known.is_active:
        return _queued(run, known)
    if run.launcher == "local" and run.job and _is_here(run):
        if is_alive_here(run.job, run.folder):
            begun = run.events[-1]["event"] == "started"
            return "RUNNING", "on this machine" if begun else f"{STARTING} on this machine"
    elif run.launcher == "slurm":
        return _ended(run, known) if known else _gone(run, slurm)
    return _without_slurm(run)


def _queued(run: _Run, job: SlurmJob) -> tuple[str, str]:
    if job.state == "PENDING":
        state = "REQUEUED" if job.restarts else "PENDING"
        if job.is_held:
            return state, f"held ({job.reason}); go on with: ssl-zoo release {run.name}"
        words = WAITING.get(job.reason, "").format(start=job.start or "later", run=run.name)
        if job.reason in ("Resources", "Priority") and job.start:
            words += f", expected start {job.start}"
        waits = f"{job.reason}: {words}" if words else job.reason
        went = leaving(run.events, log_end(run.folder, job.id)) if job.restarts else ""
        return state, f"{went}; {waits}" if went else waits
    where = f"on {job.nodes}" if job.nodes else ""
    if job.state == "RUNNING" and not _has_begun(run, job):
        return job.state, f"{STARTING} {where}".rstrip()
    return job.state, where


def _has_begun(run: _Run, job: SlurmJob) -> bool:
    """Says whether this start of the job trains already."""
    return any(
        event["event"] == "started" and int(event.get("restart") or 0) >= job.restarts
        for event in run.events
    )


def _ended(run: _Run, job: SlurmJob) -> tuple[str, str]:
    """Returns how a job ended, of a run that is not complete."""
    # A start that ended before it could write anything must not be explained by the one before.
    events = [event for event in run.events if int(event.get("restart") or 0) >= job.restarts]
    log = log_end(run.folder, job.id)
    why = cause(events, log)
    last = events[-1]["event"] if events else ""
    if job.state == "COMPLETED":
        if last in ("stopped", "failed"):
            return last.upper(), why
        return "INCOMPLETE", why or "the job ended without an error, but the run has not"
    if job.state == "CANCELLED":
        by = f"cancelled by {job.ended_by}" if job.ended_by else "cancelled"
        return job.state, by if why in ("", "cancelled") else f"{by}; {why}"
    return job.state, why or ENDED.get(job.state) or log.with_line(_exit_words(job))


def _exit_words(job: SlurmJob) -> str:
    code, _, signum = job.exit_code.partition(":")
    if signum not in ("", "0"):
        return f"killed by signal {signum}"
    return f"exit status {code}" if code not in ("", "0") else job.reason


def _gone(run: _Run, slurm: Slurm) -> tuple[str, str]:
    """Returns what the folder tells of a job that SLURM does not know, or not any more."""
    ended = _from_events(run)
    if ended:
        return ended
    if slurm.is_silent:
        return "UNKNOWN", f"job {run.job} cannot be asked for: {slurm.problems['squeue']}"
    who = "sacct cannot say why" if "sacct" in slurm.problems else "sacct knows nothing of it"
    why = cause(run.events, log_end(run.folder, run.job or ""))
    return "LOST", f"job {run.job} is not in the queue, and {who}" + (f"; {why}" if why else "")


def _without_slurm(run: _Run) -> tuple[str, str]:
    """Returns the state of a run in a terminal, or of a local job whose controller is gone."""
    if is_locked(run.folder):
        return "RUNNING", "in a terminal of this machine"
    ended = _from_events(run)
    if ended:
        return ended
    names = [event["event"] for event in run.events]
    if not _is_here(run):
        return "UNKNOWN", f"started on {run.host}; only that machine can tell"
    if "started" in names or run.launcher == "local":
        why = cause(run.events, log_end(run.folder, run.job)) if run.job else ""
        return "LOST", why or "its process is gone and left no word"
    if (run.folder / "checkpoints").is_dir():
        return "STOPPED", "no process trains it"
    return "NOT STARTED", ""


def _from_events(run: _Run) -> tuple[str, str] | None:
    """Returns the end that the history tells of, if its last word is an end."""
    last = run.events[-1]["event"] if run.events else ""
    if last not in ("stopped", "failed"):
        return None
    log = log_end(run.folder, run.job or "")
    return last.upper(), cause(run.events, log)


def _is_here(run: _Run) -> bool:
    return run.host in ("", socket.gethostname())


def is_locked(folder: Path) -> bool:
    """Says whether a process of this machine holds the lock of a run folder.

    The lock is not tried: a process that starts in that moment would be turned away.
    """
    try:
        facts = (folder / ".lock").stat()
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return False
    return any(_is_lock_of(facts, line.split()) for line in lines)


def _is_lock_of(facts: os.stat_result, fields: Sequence[str]) -> bool:
    """Compares a file with a line of /proc/locks: `1: FLOCK ADVISORY WRITE 99 fe:00:1234 0 EOF`."""
    if len(fields) < 6 or fields[1] != "FLOCK":
        return False
    major, minor, inode = fields[5].split(":")
    device = os.makedev(int(major, 16), int(minor, 16))
    # Layered file systems show a device of their own to programs: then the inode must do.
    is_layered = os.major(facts.st_dev) == 0
    same = device == facts.st_dev or is_layered
    return stat.S_ISREG(facts.st_mode) and int(inode) == facts.st_ino and same
