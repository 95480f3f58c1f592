"""A SLURM on this machine for tests, and what can befall it: preemption, dead nodes, signals."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from tests.waiting import PATIENCE_S

Value = TypeVar("Value")

SCRIPT = Path(__file__).with_name("local-slurm")
NOT_INSTALLABLE = 69
"""Exit status of `local-slurm start` without the packages of SLURM."""


class Queued(NamedTuple):
    """A job that is in the queue, as squeue puts it: `Queued("PENDING", "Resources")`."""

    state: str
    reason: str


class Cluster:
    """The SLURM of `local-slurm` in a folder. Jobs are named by their ids: `12`, or `12_3`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {**os.environ, "SLURM_CONF": str(folder / "etc" / "slurm.conf")}
        """Environment for processes that are to use this SLURM."""

    def heal(self) -> None:
        """Starts what is dead and returns nodes to service; starts everything the first time.

        Raises:
            FileNotFoundError: the packages of SLURM are missing, and cannot be installed.
        """
        done = run(str(SCRIPT), "start", str(self.folder), check=False)
        if done.returncode == NOT_INSTALLABLE:
            raise FileNotFoundError(done.stderr.strip().splitlines()[-1])
        assert done.returncode == 0, done.stderr

    def stop(self) -> None:
        """Ends jobs and daemons and removes the folder."""
        run(str(SCRIPT), "stop", "--wipe", str(self.folder))

    def command(self, *command: str) -> str:
        """Runs a SLURM command and returns what it prints; raises with what it says on failure."""
        return run(*command, env=self.env).stdout.strip()

    def scontrol(self, *arguments: str) -> str:
        """Returns what scontrol prints."""
        return self.command("scontrol", *arguments)

    def submit(self, script: str, *options: str) -> str:
        """Submits lines of shell with options of sbatch, output thrown away, and returns the id."""
        quiet = ("--parsable", "--mem=200", "--output=/dev/null")
        return self.command("sbatch", *quiet, *options, f"--wrap={script}")

    def squeue(self, job: str) -> Queued | None:
        """Returns where a job is in the queue; None when it has left."""
        line = "%T|%r"
        done = run("squeue", "-h", "-r", "-j", job, "-o", line, env=self.env, check=False)
        if done.returncode and "Invalid job id" not in done.stderr:
            raise AssertionError(f"squeue: {done.stderr}")
        rows = done.stdout.splitlines()
        return Queued(*rows[0].split("|", 1)) if rows else None

    def starts(self, job: str) -> list[str]:
        """Returns how each start of a job ended, oldest first: `["REQUEUED", "COMPLETED"]`.

        Accounting lags behind by a second.
        """
        rows = self.command("sacct", "-D", "-n", "-X", "-P", "-o", "State", "-j", job)
        return [row.split()[0] for row in rows.splitlines()]  # CANCELLED by 0

    def state(self, job: str) -> str:
        """Returns the state of a job by the controller: `RUNNING`, `COMPLETED`, `NODE_FAIL`."""
        fields = self.scontrol("show", "job", "-o", job).split()
        return next(field for field in fields if field.startswith("JobState=")).split("=")[1]

    def nodes(self) -> dict[str, str]:
        """Returns the state of each node: `idle`, `mixed`, `down*`."""
        rows = self.command("sinfo", "-h", "-N", "-p", "main", "-o", "%N %T").splitlines()
        return dict(row.split(maxsplit=1) for row in rows)

    def wait_for(
        self, look: Callable[[], Value], timeout_s: float, what: str, *, every_s: float = 0.2
    ) -> Value:
        """Returns what `look` does as soon as that is true.

        Raises:
            AssertionError: it was not within `timeout_s`; says `what`, and what there is instead.
        """
        deadline = time.monotonic() + timeout_s
        while not (seen := look()):
            if time.monotonic() > deadline:
                queue = self.command("squeue", "-o", "%i %P %T %r %N")
                raise AssertionError(f"not within {timeout_s} s: {what}; saw {seen!r}\n{queue}")
            time.sleep(every_s)
        return seen

    def wait_until_running(self, job: str, timeout_s: float = PATIENCE_S) -> None:
        """Waits until a job runs."""
        self.wait_for(lambda: self.state(job) == "RUNNING", timeout_s, f"job {job} runs")

    def wait_until_over(self, job: str, timeout_s: float = PATIENCE_S) -> str:
        """Waits until a job has left the queue, and returns its state."""
        self.wait_for(lambda: self.squeue(job) is None, timeout_s, f"job {job} is over")
        return self.state(job)

    def signal(self, job: str, name: str) -> None:
        """Sends a signal, such as `USR2`, to the steps of a job."""
        self.command("scancel", "--signal", name, job)

    def preempt(
        self, *, seconds: float = 2, nodes: int | None = None, partition: str = "high"
    ) -> str:
        """Submits a job that takes whole nodes, all by default, and returns its id at once."""
        count = len(self.nodes()) if nodes is None else nodes
        options = (f"--partition={partition}", "--exclusive", f"--nodes={count}")
        return self.submit(f"sleep {seconds}", *options)

    def node_down(self, name: str) -> None:
        """Declares a node down, which requeues its jobs."""
        self.scontrol("update", f"nodename={name}", "state=down", "reason=test")

    def node_up(self, name: str) -> None:
        """Returns a node that was declared down to service."""
        self.scontrol("update", f"nodename={name}", "state=resume")
        self.wait_for(lambda: in_service(self.nodes()[name]), PATIENCE_S, f"{name} is in service")

    def slurmd_pid(self, name: str) -> int:
        """Returns the process of a node's daemon."""
        return int((self.folder / "run" / f"slurmd.{name}.pid").read_text())

    def kill_slurmd(self, name: str) -> None:
        """Kills a node's daemon; its jobs run on, unwatched, until `heal`."""
        os.kill(self.slurmd_pid(name), signal.SIGKILL)

    def without_sacct(self) -> dict[str, str]:
        """Returns an environment whose sacct fails, as on a site without accounting."""
        shims = self.folder / "without_sacct"
        shims.mkdir(exist_ok=True)
        shim = shims / "sacct"
        shim.write_text("#!/bin/sh\necho 'Slurm accounting storage is disabled' >&2\nexit 1\n")
        shim.chmod(0o755)
        return {**self.env, "PATH": f"{shims}{os.pathsep}{self.env['PATH']}"}

    def cancel_all(self) -> None:
        """Cancels all jobs of this user and waits until the queue is empty."""
        if self.command("squeue", "-h", "--me"):
            self.command("scancel", "--me")
            self.wait_for(
                lambda: not self.command("squeue", "-h", "--me"), PATIENCE_S, "the queue is empty"
            )

    def tidy(self) -> None:
        """Leaves no job and every node in service, whatever a test did."""
        if not self.is_well():
            self.heal()
        self.cancel_all()

    def is_well(self) -> bool:
        """Returns whether the controller answers, and all nodes are in service and their daemons live."""
        if run("scontrol", "ping", env=self.env, check=False).returncode:
            return False
        return all(
            in_service(state) and self.has_daemon(name) for name, state in self.nodes().items()
        )

    def has_daemon(self, name: str) -> bool:
        """Returns whether a node's daemon lives."""
        pid_file = self.folder / "run" / f"slurmd.{name}.pid"
        if not pid_file.exists():
            return False
        # Not /proc/PID: a daemon that was killed can stay as a zombie for seconds.
        return Path(f"/proc/{int(pid_file.read_text())}/exe").exists()


def in_service(state: str) -> bool:
    return state in {"idle", "mixed", "allocated", "completing"}  # not "idle*", which is no answer


def run(
    *command: str, env: dict[str, str] | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Returns the finished process; a failure raises, with what the command said."""
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout}")
    return done
