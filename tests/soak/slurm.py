"""Runs as jobs of the local SLURM: faults, and what is seen afterwards."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import ssl_zoo
from ssl_zoo.errors import UserError
from ssl_zoo.jobs.status import Phase, status
from ssl_zoo.launch.control import cancel, requeue
from ssl_zoo.runs.history import History
from ssl_zoo.runs.slurm import SlurmConfig
from tests.slurm.cluster import Cluster
from tests.soak import checks, paced
from tests.soak.local import Story, progress
from tests.soak.plan import PACE_S, STEPS, Blow
from tests.soak.starts import PATIENCE_S

QUIET_S = 1.5
"""Seconds between questions to SLURM, which answers slowly where there is much to do."""


@dataclass
class JobStory(Story):
    """One run that is submitted; a node is its own while it lasts."""

    cluster: Cluster = field(kw_only=True)
    node: str = field(kw_only=True)

    def suffer(self, blow: Blow) -> bool:
        """Submits the run if no job is there, and strikes; returns whether the run is complete."""
        if status(self.folder).is_over if self.folder.is_dir() else True:
            self.submit()
        n_starts = 1 + sum(
            event.event == "started" for event in History(self.folder).since_submission()
        )
        job, n_before = self.job, progress(self.folder)["starts"]
        is_first = len(self.seen) == 0 or n_starts == 1
        self.until(lambda: progress(self.folder)["starts"] > n_before or self.is_over(), "starts")
        left = 1 - progress(self.folder)["saved"] / STEPS
        until = time.monotonic() + blow.moment * left * STEPS * (PACE_S + 0.1)
        while not self.is_complete_now() and time.monotonic() < until:
            time.sleep(0.1)
        told = status(self.folder)
        if told.phase not in (Phase.TRAINING, Phase.COMPLETE) and not told.is_over:
            self.problems.append(f"told {told.state} ({told.reason}) while it trains")
        at = progress(self.folder)
        said = self.strike_job(blow, job)
        self.seen.append({"fault": blow.fault, "at": at, "said": said, "job": job})
        self.seen[-1]["is_first"] = is_first
        self.until(lambda: self.is_over() or self.is_back(at["starts"]), f"moves on: {blow.fault}")
        return (self.folder / "complete.json").is_file()

    def strike_job(self, blow: Blow, job: str) -> str:
        """Does to the job what the fault is; returns what the command said."""
        fault, node = blow.fault, self.node
        try:
            if fault == "cancel":
                return cancel(self.folder)
            if fault.startswith("requeue"):
                return requeue(self.folder, hard=fault == "requeue_now")
        except UserError as error:
            return str(error)
        with contextlib.suppress(AssertionError):
            if fault.endswith("_task"):
                for pid in self.tasks(job):
                    os.kill(pid, signal.SIGKILL if fault == "kill_task" else signal.SIGTERM)
            elif fault == "preempt":
                options = (f"--nodelist={node}", "--partition=high", "--exclusive")
                self.cluster.submit("sleep 2", *options)
            else:
                self.cluster.node_down(node)
                time.sleep(1)
                self.cluster.node_up(node)
        return ""

    def look(self, fault: str) -> None:
        """Notes a state that is not the truth about the job."""
        now = status(self.folder)
        self.seen[-1]["told"] = f"{now.state}: {now.reason}" if now.reason else now.state
        is_complete = (self.folder / "complete.json").is_file()
        if (now.phase is Phase.COMPLETE) != is_complete and not self.is_complete_now():
            self.problems.append(f"after {fault}: told {self.seen[-1]['told']}")
        if now.state in ("UNKNOWN", "INCOMPLETE", "NOT STARTED"):
            self.problems.append(f"after {fault}: told {self.seen[-1]['told']}")
        queued = self.cluster.squeue(self.job)
        # That of a complete run may still be leaving, or be started once more to find it complete.
        is_queued = queued is not None and queued.state in ("PENDING", "RUNNING")
        if now.has_failed and is_queued:
            self.problems.append(f"after {fault}: told {now.state}, but the job is {queued}")

    def move(self, blow: Blow) -> None:
        """Moves, copies or damages the folder of a run without a job."""
        if self.is_over():
            super().move(blow)

    def finish(self) -> None:
        """Lets the job end, or resumes the run by a new job or in a terminal."""
        last = self.plan.blows[-1].resumes
        for attempt in range(4):
            self.until(self.is_over, "ends")
            if (self.folder / "complete.json").is_file():
                break
            if last == "terminal" or attempt == 3:
                super().finish()
                break
            has_job = status(self.folder).job is not None  # a copy has none
            if last == "folder" and attempt == 0 and has_job:
                said = requeue(self.folder)
                self.seen[-1]["again"] = said
            else:
                self.submit()
        if self.folder.joinpath("submit").is_dir() and self.job:
            self.until(lambda: self.cluster.squeue(self.job) is None or self.is_gone(), "leaves")

    def submit(self) -> None:
        """Submits the run, again or for the first time."""
        python = f"{sys.executable} {paced.__file__}"
        root = Path(paced.__file__).parents[2]
        slurm = SlurmConfig(
            partition="low" if self.plan.index % 2 else "lowhard",
            nodelist=self.node,
            mem_gb=2,
            timeout_min=120,
            python=python,
            setup=[
                *(f"export {paced.PACE}={PACE_S}", "export OMP_NUM_THREADS=1"),
                *(f"export {checks.MARK}='{self.mark}'", f"export PYTHONPATH={root}"),
                f"export TMPDIR='{self.place / 'tmp'}'",
            ],
        )
        ssl_zoo.submit(self.plan.config, slurm, output=self.folder)

    def is_over(self) -> bool:
        """Whether nothing goes on by itself."""
        return status(self.folder).is_over

    def is_complete_now(self) -> bool:
        """Whether the run has become complete since somebody looked."""
        return (self.folder / "complete.json").is_file()

    def is_back(self, starts: int) -> bool:
        """Whether training has begun again."""
        return progress(self.folder)["starts"] > starts

    def is_gone(self) -> bool:
        """Whether the job has ended for SLURM."""
        return self.cluster.state(self.job) not in ("RUNNING", "PENDING", "COMPLETING")

    @property
    def job(self) -> str:
        """The newest job."""
        events = [e for e in History(self.folder).read() if e.event == "submitted"]
        return str(events[-1].job) if events else ""

    def tasks(self, job: str) -> list[int]:
        """Returns the training processes of a job."""
        wanted, found = f"SLURM_JOB_ID={job}".encode(), []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                variables = (process / "environ").read_bytes().split(b"\0")
                command = (process / "cmdline").read_bytes()
                is_task = b"submitit.core._submit" in command and b"srun" not in command
                if wanted in variables and is_task and b"paced.py" in command:
                    found.append(int(process.name))
        return found

    def until(self, look: Callable[[], bool], what: str) -> None:
        """Waits; notes what did not happen."""
        deadline = time.monotonic() + PATIENCE_S
        while not look():
            if time.monotonic() > deadline:
                now = status(self.folder)
                self.problems.append(
                    f"not within {PATIENCE_S:.0f} s: {what}; told {now.state}: {now.reason}"
                )
                return
            time.sleep(QUIET_S)
