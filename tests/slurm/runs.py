"""Training runs for fault tests: SwAV with a queue on digits, two ranks, gloo."""

import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

import ssl_zoo
from ssl_zoo.jobs.status import RunStatus, status
from ssl_zoo.runs import checkpoint
from ssl_zoo.runs.config import RunConfig
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.runs.history import Event, History
from ssl_zoo.runs.slurm import SlurmConfig
from tests.slurm.cluster import Cluster
from tests.small import fast_config
from tests.waiting import PATIENCE_S

FAULTY = Path(__file__).with_name("faulty.py")
SAVED_EVERY = 10
STEPS = 66
PACE = "pace=0.3"
TIMINGS = (
    "seconds",
    *(f"train/{name}" for name in ("images_per_second", "data_share", "saving_share", "host_gb")),
)
ONE_AT_A_TIME = threading.Lock()
"""Submitting changes the environment of the whole process for a moment."""


@dataclass(frozen=True)
class Fault:
    """What became of a run that something befell.

    Attributes:
        event: what befell it.
        told: what `ssl-zoo jobs` said of it then.
        lost: steps that were taken and had to be taken again.
        seconds: from the event until training went on.
    """

    event: str
    told: str
    lost: int
    seconds: float


def config(*overrides: str) -> RunConfig:
    """Returns a run of 66 steps whose queue fills and is used, with a checkpoint every 10 steps.

    Each rank has batch statistics of its own, which must come back as well.
    """
    return fast_config(
        "swav",
        "epochs=3",
        "global_batch_size=64",
        "sync_batch_norm=off",
        "log_every=1",
        "method.queue_length=64",
        "method.queue_start=10 steps",
        "method.freeze_prototypes=20 steps",
        f"checkpoint.every={SAVED_EVERY} steps",
        *overrides,
    )


@dataclass
class Run:
    """A run in a folder, as a user of the cluster sees it."""

    cluster: Cluster
    folder: Path
    overrides: tuple[str, ...] = ()
    slurm: dict[str, Any] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def submit(self, faults: str = PACE, **slurm: Any) -> str:
        """Submits the run, again or for the first time, and returns the number of its job."""
        python = f"{sys.executable} {FAULTY}"
        usual = {"nodes": 2, "tasks_per_node": 1, "mem_gb": 3, "timeout_min": 10, "python": python}
        setup = [f"export FAULTS='{faults}'", "export OMP_NUM_THREADS=1"]
        settings = SlurmConfig(**{**usual, "setup": setup, **self.slurm, **slurm})
        with ONE_AT_A_TIME:
            ssl_zoo.submit(config(*self.overrides), settings, output=self.folder)
        return self.job

    @property
    def job(self) -> str:
        """The newest job."""
        events = History(self.folder).read()
        return str(next(e.job for e in reversed(events) if e.event == "submitted"))

    def events(self, name: str) -> list[Event]:
        """Returns what happened so far, of one kind."""
        return [event for event in History(self.folder).read() if event.event == name]

    @property
    def starts(self) -> list[int]:
        """The steps that its starts began at."""
        return [event.step or 0 for event in self.events("started")]

    @property
    def saved(self) -> int:
        """The step of the newest checkpoint."""
        names = [path.name for path in checkpoint.found(self.folder / "checkpoints")]
        return int(names[0].removeprefix("step-")) if names else 0

    def until_saved(self, step: int, timeout_s: float = PATIENCE_S) -> None:
        """Waits until a step is saved."""
        what = f"step {step} of {self.folder.name} is saved"
        self.cluster.wait_for(lambda: self.saved >= step, timeout_s, f"{what}\n{self.log()}")

    def until_started(self, times: int, timeout_s: float = PATIENCE_S) -> int:
        """Waits until it has begun so often, and returns the step that it went on from."""
        self.cluster.wait_for(
            lambda: len(self.starts) >= times,
            timeout_s,
            f"start {times} of {self.folder.name}\n{self.log()}",
        )
        return self.starts[times - 1]

    @property
    def step(self) -> int:
        """The newest step in the metrics."""
        file = RunFolder(self.folder).metrics_file
        lines = file.read_text().splitlines() if file.exists() else []
        return int(json.loads(lines[-1])["step"]) if lines else 0

    def survives(
        self, event: str, act: Callable[[], object], *, again: str | None = None, **slurm: Any
    ) -> Fault:
        """Lets something befall the running job and waits until training goes on.

        Args:
            again: the job ends by it and is submitted again, with these faults,
            slurm: and with these settings.
        """
        self.until_started(max(1, len(self.starts)))
        times, began, requeues = len(self.starts), time.time(), self.told().requeues
        last = self.step  # before, as what comes after the last look is lost unseen
        act()
        told = self.until_told(event, requeues)
        last = max(last, self.step)
        if again is not None:
            told = self.until_over()
            last = max(last, self.step)
            self.submit(again, **slurm)
        first = self.until_started(times + 1)
        went_on = datetime.fromisoformat(self.events("started")[times].time).timestamp()
        said = f"{told.state}: {told.reason}" if told.reason else told.state
        fault = Fault(event, said, max(0, last - first), went_on - began)
        self.faults.append(fault)
        return fault

    def until_told(self, event: str, requeues: int) -> RunStatus:
        """Returns what is told as soon as the job does not just run on."""
        unmoved = {"RUNNING", "COMPLETING", "SIGNALING"}
        seen: list[RunStatus] = []

        def has_moved() -> bool:
            seen.append(now := self.told())
            is_back = now.state == "RUNNING" and now.requeues > requeues
            return is_back or now.state not in unmoved

        self.cluster.wait_for(has_moved, PATIENCE_S, f"{event} shows\n{self.log()}", every_s=0.5)
        return seen[-1]

    def until_complete(self, timeout_s: float = PATIENCE_S) -> None:
        """Waits until the run has reached its end."""
        file = RunFolder(self.folder).complete_file
        self.cluster.wait_for(file.exists, timeout_s, f"{self.folder.name} ends\n{self.log()}")

    def until_over(self, timeout_s: float = PATIENCE_S) -> RunStatus:
        """Waits until the job has left the queue, and returns what `ssl-zoo jobs` says then."""
        self.cluster.wait_until_over(self.job, timeout_s)
        return self.told()

    def told(self) -> RunStatus:
        """Returns what `ssl-zoo jobs` says."""
        return status(self.folder)

    def results(self) -> list[Path]:
        """Returns submitit's notes that a job is over."""
        return [*(self.folder / "submit").glob("*_result.pkl")]

    def log(self, rank: int = 0) -> str:
        """Returns what a rank of the newest job has printed."""
        file = self.folder / "submit" / f"{self.job}_{rank}_log.out"
        return file.read_text() if file.exists() else ""


def assert_same(run: Run, whole: Run) -> None:
    """Sees that two runs ended with the same weights and the same metrics, bit for bit."""
    weights, others = (
        safetensors.torch.load_file(
            each.folder / "checkpoints" / f"step-{STEPS:08d}" / checkpoint.MODEL
        )
        for each in (run, whole)
    )
    assert [key for key in weights if not torch.equal(weights[key], others[key])] == []
    assert metrics(run) == metrics(whole)


def metrics(run: Run) -> list[dict[str, Any]]:
    lines = RunFolder(run.folder).metrics_file.read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMINGS} for line in lines]
