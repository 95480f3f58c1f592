"""`history.jsonl`: what happened to a run or a scoring job, one line an event, never rewritten.

    submitted    job, launcher, tasks, commit                    handed to a launcher
    started      step, total_steps, world_size, host, job, restart    a process began to train
    requeued     step, reason, job, restart       saved, and the launcher will start it again
    stopped      step, reason, job, restart       saved, and nothing will start it again by itself
    failed       reason, rank, job, restart       ended by an error
    complete     step, job, restart               reached its end

`job` is the launcher's number (`12`, `12_3`), None outside of a job; `restart` counts its starts from 0.
"""

import json
import logging
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from ssl_zoo.runs.job import current_job

logger = logging.getLogger(__name__)

EventName = Literal["submitted", "started", "requeued", "stopped", "failed", "complete"]
Event = dict[str, Any]


class History:
    """Reads and extends the history of a run folder."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "history.jsonl"

    def add(self, event: EventName, **facts: Any) -> None:
        """Appends an event, with the time and, unless `facts` name them, the job that runs here."""
        job = current_job()
        where = {"job": job.id, "restart": job.restart} if job else {}
        record = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "event": event}
        line = json.dumps({**record, **where, **facts}) + "\n"
        line = "\n" + line if self._ends_within_a_line() else line
        try:
            # One write of one line: two processes that append at once do not mix.
            descriptor = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(descriptor, line.encode())
            finally:
                os.close(descriptor)
        except OSError as error:
            if event == "submitted":
                raise
            # What happened counts more than the note of it: a full disk must not keep a job from
            # leaving as it should.
            logger.warning("'%s' cannot be extended: %s", self.file, error.strerror)

    def _ends_within_a_line(self) -> bool:
        try:
            with self.file.open("rb") as file:
                file.seek(-1, os.SEEK_END)
                return file.read(1) != b"\n"
        except OSError:  # there is no file, or it is empty
            return False

    def read(self) -> list[Event]:
        """Returns all events, oldest first; lines that a crash cut off are skipped."""
        try:
            lines = self.file.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return []
        events = []
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and "event" in event:
                events.append(event)
        return events

    def since_submission(self) -> list[Event]:
        """Returns the newest `submitted` event and what came after it; all where there is none.

        A job may start before its submission could be written down; that belongs to it as well.
        """
        events = self.read()
        submitted = [position for position, e in enumerate(events) if e["event"] == "submitted"]
        if not submitted:
            return events
        last, before = events[submitted[-1]], events[: submitted[-1]]
        early = [e for e in before if last.get("job") and e.get("job") == last["job"]]
        early = [event for event in early if event["event"] != "submitted"]
        return [last, *early, *events[submitted[-1] + 1 :]]


def host() -> str:
    """Returns the name of this machine, or of the node where several share a machine."""
    job = current_job()
    return (job.node if job else "") or socket.gethostname()
