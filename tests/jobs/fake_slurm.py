"""Clients of SLURM that print what a real one has printed, and run folders as jobs leave them.

`recorded/` holds what SLURM 22.05 said of these jobs, their numbers shortened:

    724    ran into its limit           732  over its memory             739  requeued and held
    727    runs                         733  its script was killed       740  begins later
    728    held                         736  was cancelled               741  nodes are reserved
    729_N  0, 1 run; 2 to 4 wait        737  an array, cancelled early   742  waits for nodes
    730    exit status 3                738  has completed               744  requeued, waits
    731    waits for 730 in vain                                         745  requeued, runs
"""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

RECORDED = Path(__file__).parent / "recorded"
DISABLED = "Slurm accounting storage is disabled"
CLIENTS = ("squeue", "sacct", "scontrol", "scancel")

_CLIENT = """#!/bin/sh
echo "{name} $*" >> "{folder}/calls"
while IFS= read -r line; do printf '%s\\n' "$line"; done < "{folder}/{name}.out"
while IFS= read -r line; do printf '%s\\n' "$line" >&2; done < "{folder}/{name}.err"
{then}
exit {status}
"""


class FakeSlurm:
    """Stands in for SLURM: nothing else is on PATH.

    Args:
        folder: where the clients are put.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder / "slurm"
        self.folder.mkdir()
        monkeypatch.setenv("PATH", str(self.folder))
        monkeypatch.setenv("SSL_ZOO_RUNS", str(folder / "runs"))
        monkeypatch.delenv("SLURM_JOB_ID", raising=False)
        self.says("squeue", (RECORDED / "squeue.txt").read_text())
        self.says("sacct", (RECORDED / "sacct.txt").read_text())
        self.says("scontrol")
        self.says("scancel")

    def says(
        self, client: str, out: str = "", *, err: str = "", status: int = 0, then: str = ""
    ) -> None:
        """Lets a client print this from now on, do some shell lines and end with a status."""
        for suffix, text in (("out", out), ("err", err)):
            (self.folder / f"{client}.{suffix}").write_text(text + "\n" * (text[-1:] not in "\n"))
        script = _CLIENT.format(name=client, folder=self.folder, status=status, then=then)
        aside = self.folder / f"{client}.new"  # one that is being run cannot be written
        aside.write_text(script)
        aside.chmod(0o755)
        aside.rename(self.folder / client)

    def hangs(self, client: str) -> None:
        """Lets a client never come to an end."""
        os.mkfifo(self.folder / "nobody_writes")
        self.says(client, then=f'read line < "{self.folder}/nobody_writes"')

    def lacks(self, *clients: str) -> None:
        """Takes clients away."""
        for client in clients or CLIENTS:
            (self.folder / client).unlink()

    def forgets(self, job: str) -> None:
        """Lets squeue know nothing of a job any more."""
        lines = (RECORDED / "squeue.txt").read_text().splitlines(keepends=True)
        self.says("squeue", "".join(line for line in lines if line.split()[0] != job))

    def calls(self, client: str = "") -> list[str]:
        """Returns the command lines so far, of one client or of all."""
        file = self.folder / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        return [line for line in lines if line.startswith(client)]


def make_run(folder: Path, *events: dict[str, Any], job: str | None = None, **facts: Any) -> Path:
    """Makes a run folder with a history: submitted as `job` if there is one, then the events.

    Args:
        facts: more of the `submitted` event.
    """
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("epochs: 1\n")
    submitted = {
        "event": "submitted",
        "job": job,
        "restart": None,
        "launcher": "slurm",
        "tasks": 2,
    }
    first = [{**submitted, "host": "login", **facts}] if job else []
    add(folder, *first, *events)
    return folder


def add(folder: Path, *events: dict[str, Any]) -> None:
    """Adds events to a history."""
    with (folder / "history.jsonl").open("a") as file:
        for event in events:
            time = datetime.now(UTC).isoformat(timespec="seconds")
            file.write(json.dumps({"time": time, **event}) + "\n")


def started(job: str | None, restart: int = 0, **facts: Any) -> dict[str, Any]:
    """Returns the event of a process that began to train."""
    where = {"job": job, "restart": restart} if job else {}
    usual = {"step": 0, "total_steps": 400, "world_size": 2, "host": "node1"}
    return {"event": "started", **where, **usual, **facts}


def write_log(folder: Path, job: str, *lines: str, rank: int = 0) -> Path:
    """Appends to the log of a job's rank."""
    (folder / "submit").mkdir(exist_ok=True)
    path = folder / "submit" / f"{job}_{rank}_log.out"
    with path.open("a") as file:
        file.write("".join(line + "\n" for line in lines))
    return path


def write_checkpoint(folder: Path, step: int) -> Path:
    """Makes what can be seen of a checkpoint from outside."""
    path = folder / "checkpoints" / f"step-{step:08d}"
    path.mkdir(parents=True)
    (path / "manifest.json").write_text("{}")
    return path


def write_metrics(folder: Path, *records: dict[str, Any]) -> None:
    """Appends lines of metrics."""
    with (folder / "metrics.jsonl").open("a") as file:
        file.write("".join(json.dumps(record) + "\n" for record in records))
