"""State of runs: from SLURM, or from their folders if SLURM does not know."""

import os
import socket
import stat
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum, auto
from pathlib import Path
from typing import Any

from ssl_zoo.jobs.causes import cause, leaving, log_end
from ssl_zoo.jobs.finding import run_name
from ssl_zoo.jobs.progress import progress
from ssl_zoo.jobs.queue import Slurm, SlurmJob, is_alive_here
from ssl_zoo.runs.history import Event, History

WAITING = {
    "BeginTime": "cannot start before {start}",
    "Dependency": "waits for another job",
    "DependencyNeverSatisfied": "the job it waits for did not complete; "
    "cancel it with: ssl-zoo cancel {run}",
    "JobArrayTaskLimit": "waits for other points of its sweep (slurm.array_parallelism)",
    "PartitionDown": "the partition is down",
    "PartitionNodeLimit": "requests more nodes than the partition allows",
    "PartitionTimeLimit": "requests more time than the partition allows (slurm.timeout_min)",
    "Priority": "other jobs have priority",
    "Resources": "waits for free nodes",
}
"""Explanations of SLURM's reasons for waiting."""
ENDED = {
    "BOOT_FAIL": "a node did not start",
    "DEADLINE": "its deadline has passed",
    "NODE_FAIL": "a node failed, and SLURM did not requeue the job",
    "OUT_OF_MEMORY": "out of memory (slurm.mem_gb)",
    "PREEMPTED": "preempted, and SLURM did not requeue the job",
    "TIMEOUT": "the time limit was reached before saving finished (slurm.signal_delay_s)",
}
"""Explanations of SLURM's end states, used if neither history nor log say more."""


class Phase(StrEnum):
    """The phase of a run, independent of SLURM's state."""

    NOT_STARTED = auto()
    WAITING = auto()
    STARTING = auto()
    TRAINING = auto()
    UNKNOWN = auto()
    COMPLETE = auto()
    ENDED = auto()
    """Nothing is running, and the run is not complete."""


@dataclass(frozen=True)
class Standing:
    """The state of a run without its progress.

    Attributes:
        phase: phase of the run; determines the possible actions.
        state: state to show: one of SLURM's or ours.
        reason: why, in words.
    """

    phase: Phase
    state: str
    reason: str = ""


@dataclass(frozen=True)
class RunStatus:
    """The state of a run.

    Attributes:
        folder: the run folder, or the folder of a scoring job.
        name: name of the run in commands.
        job: the launcher's job id; None for a run that was not submitted.
        launcher: `slurm` or `local`; empty if `job` is None.
        phase: phase of the run.
        state: one of SLURM's states; REQUEUED, a pending job that ran before; COMPLETE; STOPPED,
            it saved and ended; INCOMPLETE, its job succeeded but the run is not complete; LOST, it
            started and disappeared; UNKNOWN, it may be running where we cannot see it; NOT
            STARTED.
        reason: why, in words.
        requeues: number of restarts of the job.
        checkpoint_age_s: seconds since the newest checkpoint was written.
        eta_s: seconds to the end; None unless it is training.
    """

    folder: Path
    name: str
    job: str | None
    launcher: str
    phase: Phase
    state: str
    reason: str
    requeues: int
    step: int | None
    total_steps: int | None
    checkpoint_step: int | None
    checkpoint_age_s: float | None
    images_per_second: float | None
    eta_s: float | None

    def as_row(self) -> dict[str, Any]:
        """Returns everything as JSON-serialisable values."""
        over = {"is_over": self.is_over, "has_failed": self.has_failed}
        return {**asdict(self), "folder": str(self.folder), **over}

    @property
    def is_over(self) -> bool:
        """Whether it will not continue on its own."""
        return self.phase in (Phase.NOT_STARTED, Phase.COMPLETE, Phase.ENDED)

    @property
    def has_failed(self) -> bool:
        """Whether it was started and is over, but not complete."""
        return self.phase is Phase.ENDED


@dataclass(frozen=True)
class _Run:
    """A run folder and its history.

    Attributes:
        events: events since the newest submission.
        job: job id; None for a run that was trained in a terminal since.
        launcher: `slurm` or `local`; empty for a run in a terminal.
        copied: the submission of another folder, of which this one is a copy; None otherwise.
    """

    folder: Path
    events: list[Event]
    job: str | None
    launcher: str
    host: str
    copied: Event | None

    @property
    def is_complete(self) -> bool:
        if (self.folder / "compare.json").is_file():
            return bool(self.events) and self.events[-1].event == "complete"
        is_scoring = (self.folder / "evaluate.json").is_file()
        return (self.folder / ("evaluation.json" if is_scoring else "complete.json")).is_file()

    @property
    def name(self) -> str:
        return run_name(self.folder)


def status(folder: Path, slurm: Slurm | None = None) -> RunStatus:
    """Returns the state of one run."""
    return statuses([folder], slurm)[0]


def statuses(folders: Iterable[Path], slurm: Slurm | None = None) -> list[RunStatus]:
    """Returns the states of runs, calling squeue and sacct once for all.

    Args:
        slurm: remembers which SLURM clients work, and reports it; share it between calls.
    """
    slurm = slurm or Slurm()
    runs = [_read(folder) for folder in folders]
    known = slurm.look(run.job for run in runs if run.job and run.launcher == "slurm")
    return [_status(run, slurm, known.get(run.job or "")) for run in runs]


def _read(folder: Path) -> _Run:
    history = History(folder)
    events = history.since_submission()
    submitted = events[0] if events and events[0].event == "submitted" else None
    copied = submitted if submitted and history.is_copied(submitted) else None
    started = next((e for e in reversed(events) if e.event == "started"), None)
    job, launcher = (submitted.job, submitted.launcher or "") if submitted else (None, "")
    if launcher == "debug" or copied:  # ran in the process that submitted it, or elsewhere
        job, launcher = None, ""
    ours = {event.job for event in events if event.event == "submitted" and event.job}
    if started and started.job in ours and not copied:
        job, launcher = started.job, "slurm"
    elif started and launcher != "local":  # a later start in a terminal
        job, launcher = None, ""
    hosts = [event.host for event in (started, submitted) if event and event.host]
    if launcher == "local":
        hosts.reverse()
    return _Run(folder, events, job or None, launcher, hosts[0] if hosts else "", copied)


def _status(run: _Run, slurm: Slurm, known: SlurmJob | None) -> RunStatus:
    found = _standing(run, slurm, known)
    reached = progress(run.folder, History(run.folder).read())
    requeued = sum(event.event == "requeued" for event in run.events)
    trains = found.phase is Phase.TRAINING
    return RunStatus(
        folder=run.folder,
        name=run.name,
        job=run.job,
        launcher=run.launcher,
        phase=found.phase,
        state=found.state,
        reason=found.reason,
        requeues=max(requeued, known.restarts if known else 0, *(e.start for e in run.events), 0),
        step=reached.step,
        total_steps=reached.total_steps,
        checkpoint_step=reached.checkpoint_step,
        checkpoint_age_s=reached.checkpoint_age_s,
        images_per_second=reached.images_per_second if trains else None,
        eta_s=reached.eta_s if trains else None,
    )


def _standing(run: _Run, slurm: Slurm, known: SlurmJob | None) -> Standing:
    """Returns the state from the most reliable source available."""
    if run.is_complete:
        ends = [event.reason for event in run.events if event.event == "complete"]
        why = f"stopped early: {ends[-1]}" if ends and ends[-1] else ""
        return Standing(Phase.COMPLETE, "COMPLETE", why)
    if known and known.is_active:
        return _queued(run, known)
    if run.launcher == "local" and run.job and _is_here(run):
        if is_alive_here(run.job, run.folder):
            if run.events[-1].event == "started":
                return Standing(Phase.TRAINING, "RUNNING", "on this machine")
            return Standing(Phase.STARTING, "RUNNING", "starting up on this machine")
    elif run.launcher == "slurm":
        return _ended(run, known) if known else _gone(run, slurm)
    return _without_slurm(run)


def _queued(run: _Run, job: SlurmJob) -> Standing:
    where = f"on {job.nodes}" if job.nodes else ""
    if job.state == "PENDING":
        return Standing(Phase.WAITING, "REQUEUED" if job.restarts else "PENDING", _wait(run, job))
    if job.state != "RUNNING":
        return Standing(Phase.WAITING, job.state, where)
    if not _has_begun(run, job):
        return Standing(Phase.STARTING, job.state, f"starting up {where}".rstrip())
    return Standing(Phase.TRAINING, job.state, where)


def _wait(run: _Run, job: SlurmJob) -> str:
    """Returns why a job is waiting."""
    if job.is_held:
        return f"held ({job.reason}); release it with: ssl-zoo release {run.name}"
    words = WAITING.get(job.reason, "").format(start=job.start or "later", run=run.name)
    if job.reason in ("Resources", "Priority") and job.start:
        words += f", expected start {job.start}"
    waits = f"{job.reason}: {words}" if words else job.reason
    went = leaving(run.events, log_end(run.folder, job.id)) if job.restarts else ""
    return f"{went}; {waits}" if went else waits


def _has_begun(run: _Run, job: SlurmJob) -> bool:
    """Returns whether this start of the job is training already."""
    return any(e.event == "started" and e.start >= job.restarts for e in run.events)


def _ended(run: _Run, job: SlurmJob) -> Standing:
    """Returns how the job of an incomplete run ended."""
    # A start that ended before writing anything must not be explained by the previous one.
    events = [event for event in run.events if event.start >= job.restarts]
    log = log_end(run.folder, job.id)
    why = cause(events, log)
    last = events[-1].event if events else ""
    if job.state == "COMPLETED":
        if last in ("stopped", "failed"):
            return Standing(Phase.ENDED, last.upper(), why)
        why = why or "the job ended without an error, but the run is not complete"
        return Standing(Phase.ENDED, "INCOMPLETE", why)
    if job.state == "CANCELLED":
        by = f"cancelled by {job.ended_by}" if job.ended_by else "cancelled"
        why = by if why in ("", "cancelled") else f"{by}; {why}"
        return Standing(Phase.ENDED, job.state, why)
    why = why or ENDED.get(job.state) or log.with_line(_exit_words(job))
    return Standing(Phase.ENDED, job.state, why)


def _exit_words(job: SlurmJob) -> str:
    code, _, signum = job.exit_code.partition(":")
    if signum not in ("", "0"):
        return f"killed by signal {signum}"
    return f"exit status {code}" if code not in ("", "0") else job.reason


def _gone(run: _Run, slurm: Slurm) -> Standing:
    """Returns state and reason from the folder for a job that SLURM does not know."""
    ended = _from_events(run)
    if ended:
        return ended
    if slurm.is_silent:
        why = f"job {run.job} cannot be queried: {slurm.problems['squeue']}"
        return Standing(Phase.UNKNOWN, "UNKNOWN", why)
    who = "sacct is not available" if "sacct" in slurm.problems else "sacct has no record of it"
    why = cause(run.events, log_end(run.folder, run.job or ""))
    lost = f"job {run.job} is not in the queue, and {who}" + (f"; {why}" if why else "")
    return Standing(Phase.ENDED, "LOST", lost)


def _without_slurm(run: _Run) -> Standing:
    """Returns the state of a run in a terminal, or of a local job without its controller."""
    if is_locked(run.folder):
        return Standing(Phase.TRAINING, "RUNNING", "in a terminal of this machine")
    ended = _from_events(run)
    if ended:
        return ended
    if run.copied:
        whose = f"a copy of '{run.copied.folder}', to which job {run.copied.job} belongs"
        return Standing(Phase.ENDED, "STOPPED", whose)
    if not _is_here(run):
        why = f"started on {run.host}; its state is only known there"
        return Standing(Phase.UNKNOWN, "UNKNOWN", why)
    if run.launcher == "local" or any(event.event == "started" for event in run.events):
        why = cause(run.events, log_end(run.folder, run.job)) if run.job else ""
        return Standing(Phase.ENDED, "LOST", why or "its process ended without recording why")
    if (run.folder / "checkpoints").is_dir():
        return Standing(Phase.ENDED, "STOPPED", "no process is training it")
    return Standing(Phase.NOT_STARTED, "NOT STARTED")


def _from_events(run: _Run) -> Standing | None:
    """Returns the end recorded in the history, if its last event is an end."""
    last = run.events[-1].event if run.events else ""
    if last not in ("stopped", "failed"):
        return None
    log = log_end(run.folder, run.job or "")
    return Standing(Phase.ENDED, last.upper(), cause(run.events, log))


def _is_here(run: _Run) -> bool:
    return run.host in ("", socket.gethostname())


def is_locked(folder: Path) -> bool:
    """Returns whether a process on this machine holds the lock of a run folder.

    Does not try to acquire the lock, which could turn away a process that is just starting.
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
    # Layered file systems report a different device to programs; then only the inode is compared.
    is_layered = os.major(facts.st_dev) == 0
    same = device == facts.st_dev or is_layered
    return stat.S_ISREG(facts.st_mode) and int(inode) == facts.st_ino and same
