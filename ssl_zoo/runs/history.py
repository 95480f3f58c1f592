"""`history.jsonl`: events of a run or a scoring job, one per line; lines are only appended.

    submitted    job, launcher, tasks, commit, directory, host, folder    handed to a launcher
    started      step, total_steps, world_size, host             a process began to train
    requeued     step, reason                                    saved; the launcher starts it again
    stopped      step, reason                                    saved; nothing starts it again
    failed       reason, rank                                    ended by an error
    complete     step, reason                                    finished; why, if before the last epoch

Events written inside a job also have the fields `job` and `restart`.
"""

import json
import logging
import os
import socket
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from ssl_zoo.runs.job import current_job

logger = logging.getLogger(__name__)

EventName = Literal["submitted", "started", "requeued", "stopped", "failed", "complete"]
SCHEMA = 1
"""Version of the fields of an event."""


@dataclass(frozen=True)
class Event:
    """An event; fields that do not apply are None.

    Attributes:
        event: kind of event.
        time: time in ISO 8601, UTC; set when the event is written.
        job: job ID, `12` or `12_3`; None outside a job.
        restart: number of earlier starts of the job.
        launcher: `slurm`, `local` or `debug`.
        tasks: number of processes of a submitted job.
        commit: commit of the code that was submitted.
        directory: working directory of the submission, to which relative paths refer.
        host: machine or node.
        folder: folder of a submission, to which its job belongs; set when the event is written.
        world_size: number of training processes.
        step: number of optimizer steps taken.
        total_steps: number of steps of the run.
        reason: why the run stopped, failed or ended early.
        rank: process that failed.
    """

    event: EventName
    time: str = ""
    job: str | None = None
    restart: int | None = None
    launcher: str | None = None
    tasks: int | None = None
    commit: str | None = None
    directory: str | None = None
    host: str | None = None
    folder: str | None = None
    world_size: int | None = None
    step: int | None = None
    total_steps: int | None = None
    reason: str | None = None
    rank: int | None = None
    schema: int = SCHEMA

    @property
    def start(self) -> int:
        """Number of the start of the job, from 0."""
        return self.restart or 0

    @classmethod
    def read(cls, line: str) -> "Event | None":
        """Returns the event of a line; None for anything else, such as an incomplete line."""
        try:
            record = json.loads(line)
        except ValueError:
            return None
        if not isinstance(record, dict) or record.get("event") not in get_args(EventName):
            return None
        known = {name: record[name] for name in _FIELDS if _fits(record.get(name), _FIELDS[name])}
        return cls(**known)

    def line(self) -> str:
        """Returns the event as JSON."""
        return json.dumps(
            {name: value for name, value in asdict(self).items() if value is not None}
        )


_NUMBERS = ("restart", "tasks", "world_size", "step", "total_steps", "rank", "schema")
_FIELDS = {one.name: int if one.name in _NUMBERS else str for one in fields(Event)}


def _fits(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


class History:
    """Reads and extends the history of a run folder."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "history.jsonl"

    def add(self, event: Event) -> None:
        """Appends an event with the time and, unless it is a submission, the job of this process.

        Raises:
            OSError: a `submitted` event cannot be written. Other events only log a warning.
        """
        job = current_job()
        if event.event == "submitted":
            event = replace(event, folder=str(self.file.parent.absolute()))
        elif job is not None:
            event = replace(event, job=job.id, restart=job.restart)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        line = replace(event, time=now).line() + "\n"
        line = "\n" + line if self._ends_within_a_line() else line
        try:
            # One write of one line: two processes that append at once do not mix.
            descriptor = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(descriptor, line.encode())
            finally:
                os.close(descriptor)
        except OSError as error:
            if event.event == "submitted":
                raise
            # A full disk must not keep a job from leaving as it should.
            logger.warning("'%s' cannot be extended: %s", self.file, error.strerror)

    def _ends_within_a_line(self) -> bool:
        try:
            with self.file.open("rb") as file:
                file.seek(-1, os.SEEK_END)
                return file.read(1) != b"\n"
        except OSError:  # the file is missing or empty
            return False

    def read(self) -> list[Event]:
        """Returns all events, oldest first; lines truncated by a crash are skipped."""
        try:
            lines = self.file.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return []
        return [event for line in lines if (event := Event.read(line)) is not None]

    def submission(self) -> Event | None:
        """Returns the newest submission; None if there is none, or if it was that of another folder, of
        which this one is a copy."""
        events = [event for event in self.read() if event.event == "submitted"]
        return events[-1] if events and not self.is_copied(events[-1]) else None

    def is_copied(self, submitted: Event) -> bool:
        """Returns whether the job of a submission belongs to another folder, which still exists."""
        if submitted.folder is None:
            return False
        try:
            return not os.path.samefile(submitted.folder, self.file.parent)
        except (OSError, ValueError):  # the folder was moved
            return False

    def since_submission(self) -> list[Event]:
        """Returns the newest `submitted` event and all later events; all events if there is none.

        A job can start before its submission is recorded; such a start is included.
        """
        events = self.read()
        submitted = [position for position, e in enumerate(events) if e.event == "submitted"]
        if not submitted:
            return events
        last, before = events[submitted[-1]], events[: submitted[-1]]
        early = [e for e in before if last.job and e.job == last.job and e.event != "submitted"]
        return [last, *early, *events[submitted[-1] + 1 :]]


def host() -> str:
    """Returns the name of this machine, or of the node if several nodes share a machine."""
    job = current_job()
    return (job.node if job else "") or socket.gethostname()
