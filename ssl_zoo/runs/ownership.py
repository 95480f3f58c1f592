"""Ownership of a run folder: only the newest start of a run may write to it.

A lost node may keep computing after its job was restarted elsewhere, and the file lock of the run folder
cannot stop it. Every start therefore writes `owner.json`, and every process checks before saving whether
it is still the owner; if not, it stops.
"""

import json
import logging
import os
import time
import uuid
from pathlib import Path
from typing import Any

from ssl_zoo.errors import Superseded
from ssl_zoo.files import set_aside, write_text
from ssl_zoo.runs.history import History, host
from ssl_zoo.runs.job import Job, current_job

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LOOKS = 5.0
SECONDS_FOR_THE_OTHER = 60.0
"""Seconds that a new start waits for the previous one, which checks much more often, to stop."""


class Ownership:
    """This process's claim on a run folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / "owner.json"
        self.token = uuid.uuid4().hex
        self._looked = time.monotonic()

    def takes_over(self) -> bool:
        """Returns whether the recorded owner is an earlier start, which this one replaces.

        Raises:
            Superseded: the recorded owner is a later start.
        """
        owner, job = self._read(), current_job()
        if owner.get("job") is None or job is None:
            return False
        order = _order(owner, job, History(self.folder))
        if order < 0:
            raise Superseded.everywhere(
                f"job {owner['job']} (start {owner['restart']}) has taken over '{self.folder}' from "
                f"job {job.id} (start {job.restart}), which stops here"
            )
        return order > 0

    def take(self) -> None:
        """Makes this process the owner."""
        job = current_job()
        facts = {"token": self.token, "host": host(), "pid": os.getpid(), "time": time.time()}
        where = {"job": job.id, "restart": job.restart} if job else {"job": None, "restart": 0}
        if self.file.is_dir():  # nothing of ours
            set_aside(self.file)
        write_text(self.file, json.dumps({**facts, **where}))

    def is_lost(self, *, look: bool = True) -> bool:
        """Returns whether another process has become the owner.

        Args:
            look: whether to check now; otherwise only if the last check is some seconds old.
        """
        if not look and time.monotonic() - self._looked < SECONDS_BETWEEN_LOOKS:
            return False
        self._looked = time.monotonic()
        return bool(self._read().get("token", self.token) != self.token)

    def check(self) -> None:
        """Checks that this process is still the owner.

        Raises:
            Superseded: it is not.
        """
        if self.is_lost():
            raise self.lost()

    def lost(self) -> Superseded:
        """Returns the error that ends a process that is no longer the owner; raised on all ranks."""
        owner = self._read()
        who = f"job {owner['job']}" if owner.get("job") else f"a process on {owner.get('host')}"
        return Superseded.everywhere(
            f"{who} has taken over '{self.folder}'; this process stops here"
        )

    def _read(self) -> dict[str, Any]:
        """Returns the content of the file; empty if it is missing or cannot be read."""
        try:
            owner = json.loads(self.file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        if not isinstance(owner, dict) or not isinstance(owner.get("token"), str):
            return {}
        is_start = isinstance(owner.get("job"), str) and isinstance(owner.get("restart"), int)
        return owner if is_start else {**owner, "job": None}


def _order(owner: dict[str, Any], job: Job, history: History) -> int:
    """Returns 1 if `job` started after the owner, -1 if before, 0 if unknown."""
    if owner["job"] == job.id:
        before: int = owner["restart"]
        return (job.restart > before) - (job.restart < before)
    submitted = [event.job for event in history.read() if event.event == "submitted"]
    if job.id not in submitted:  # started before its submission was recorded, or not by ssl-zoo
        return int(owner["job"] in submitted and os.environ.get("SUBMITIT_EXECUTOR") == "slurm")
    if owner["job"] not in submitted:
        return 1
    return 1 if _last(submitted, job.id) > _last(submitted, owner["job"]) else -1


def _last(values: list[Any], value: Any) -> int:
    return len(values) - 1 - values[::-1].index(value)
