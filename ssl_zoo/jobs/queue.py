"""Queries SLURM about jobs: thin wrappers of squeue, sacct, scontrol and scancel.

`squeue` is asked first, then `sacct` for jobs that have ended. Each is called once for all jobs,
and each may be missing, down or disabled; this is reported in one line, and everything else still
works.
"""

import os
import pwd
import re
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

CLIENT_SECONDS = 30
"""Timeout of a client; squeue itself tries for 18 s to reach a controller that is down."""
SECONDS_WITHOUT_SACCT = 600
"""Seconds before sacct is asked again after it did not answer."""

FINISHED = frozenset(
    {
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "REVOKED",
        "TIMEOUT",
    }
)
"""States of squeue in which a job has ended; sacct also reports them for requeued jobs."""

# Fixed columns: versions before 20.02 have no separators, and a reason may contain any character.
SQUEUE_COLUMNS = {
    "JobArrayID": 60,
    "State": 30,
    "RestartCnt": 12,
    "exit_code": 12,
    "StartTime": 24,
    "TimeLimit": 24,
    "NodeList": 200,
    "Reason": 200,
}
CONTROLLERS = ("ssl_zoo.launch.controller", "submitit.local._local")
"""Modules that control the tasks of a local job, as in their command lines."""
SACCT_FIELDS = ("JobID", "State", "ExitCode", "Submit", "Start", "NodeList")


class ClientError(Exception):
    """A SLURM client that is missing, does not answer or refuses; with its own message."""


class NoAnswer(ClientError):
    """A client that timed out."""


@dataclass(frozen=True)
class SlurmJob:
    """SLURM's record of one job.

    Attributes:
        id: `12`, or `12_3` for a point of an array.
        state: SLURM's state, such as `RUNNING`.
        reason: SLURM's reason for waiting or ending; may be empty.
        restarts: number of restarts by SLURM.
        start: actual or expected start, `2026-11-23T04:36:47`; empty if unknown.
        exit_code: `CODE:SIGNAL` of a job that has ended.
        ended_by: user who cancelled it.
    """

    id: str
    state: str
    reason: str = ""
    restarts: int = 0
    start: str = ""
    time_limit: str = ""
    nodes: str = ""
    exit_code: str = ""
    ended_by: str = ""

    @property
    def is_active(self) -> bool:
        """Whether it is in the queue: pending, running, or requeued."""
        return self.state not in FINISHED

    @property
    def is_held(self) -> bool:
        """Whether it is held until somebody releases it."""
        return self.state == "PENDING" and "held" in self.reason.lower()


class Slurm:
    """Queries SLURM, and remembers which of its clients work here.

    Attributes:
        problems: error message of each client that does not work.
    """

    def __init__(self) -> None:
        self.problems: dict[str, str] = {}
        self._sacct_again = 0.0

    @property
    def is_silent(self) -> bool:
        """Whether squeue did not answer, so jobs may exist that are not visible."""
        return "squeue" in self.problems

    def look(self, jobs: Iterable[str]) -> dict[str, SlurmJob]:
        """Returns the record of each job; jobs unknown to SLURM are omitted."""
        wanted = sorted({job for job in jobs if re.fullmatch(r"\d+(_\d+)?", job)})
        if not wanted:
            return {}
        queued = self._queued(wanted)
        gone = [job for job in wanted if job not in queued or not queued[job].is_active]
        found = dict(queued)
        for job, record in self._accounted(gone).items():
            if self.is_silent:
                found[job] = record
            elif not record.is_active:  # otherwise the database lags behind or was never updated
                found[job] = _merge(queued.get(job), record)
        return found

    def _queued(self, jobs: list[str]) -> dict[str, SlurmJob]:
        """Asks squeue, including jobs that ended minutes ago."""
        columns = ",".join(f"{name}:{width}" for name, width in SQUEUE_COLUMNS.items())
        ids = ",".join(_base_ids(jobs))
        try:
            text = call("squeue", "-h", "-a", "-r", "-t", "all", "-j", ids, "-O", columns)
        except ClientError as error:
            # Returned if only one job was asked for and it is unknown.
            if "Invalid job id" not in str(error):
                self.problems["squeue"] = str(error)
                return {}
            text = ""
        self.problems.pop("squeue", None)
        records = [_queued_job(line) for line in text.splitlines() if line.strip()]
        return {record.id: record for record in records if record.id in jobs}

    def _accounted(self, jobs: list[str]) -> dict[str, SlurmJob]:
        """Asks sacct."""
        if not jobs or time.monotonic() < self._sacct_again:
            return {}
        fields, ids = ",".join(SACCT_FIELDS), ",".join(_base_ids(jobs))
        try:
            text = call("sacct", "-a", "-D", "-n", "-P", "-X", "-j", ids, "-o", fields)
        except ClientError as error:
            self.problems["sacct"] = (
                f"{error}; causes of older ends are only known from run folders"
            )
            self._sacct_again = time.monotonic() + SECONDS_WITHOUT_SACCT
            return {}
        self.problems.pop("sacct", None)
        return {job: record for job, record in _accounted_jobs(text).items() if job in jobs}


def call(*command: str, seconds: float | None = None) -> str:
    """Runs a client and returns what it prints.

    Args:
        seconds: timeout; CLIENT_SECONDS by default.

    Raises:
        ClientError: it is missing or fails.
        NoAnswer: it takes longer than `seconds`.
    """
    client, seconds = command[0], seconds or CLIENT_SECONDS
    # SQUEUE_USERS and similar settings of users would hide jobs here.
    private = ("SQUEUE_", "SACCT_", "SCANCEL_")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(private)}
    environment |= {"SLURM_BITSTR_LEN": "0", "SLURM_TIME_FORMAT": "standard"}
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
        )
    except FileNotFoundError:
        raise ClientError(f"{client} is not installed here") from None
    except subprocess.TimeoutExpired:
        raise NoAnswer(f"{client} did not answer within {seconds:g} s") from None
    except OSError as problem:
        raise ClientError(f"{client} cannot be run: {problem.strerror}") from None
    if done.returncode:
        raise ClientError(_words(client, done.stderr or done.stdout, done.returncode))
    return done.stdout


def _words(client: str, text: str, status: int) -> str:
    """Returns the last line of a client's message, with its name in front."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = lines[-1] if lines else f"exit status {status}"
    return f"{client}: {re.sub(rf'^{client}: ((error|fatal): )?', '', said)}"


def _base_ids(jobs: Iterable[str]) -> list[str]:
    """Returns the ids of whole arrays: points that never started have no separate record."""
    return sorted({job.partition("_")[0] for job in jobs}, key=int)


def _queued_job(line: str) -> SlurmJob:
    values, position = [], 0
    for width in SQUEUE_COLUMNS.values():
        values.append(line[position : position + width].strip())
        position += width
    name, state, restarts, status, start, limit, nodes, reason = map(_known, values)
    return SlurmJob(
        id=name,
        state=state,
        reason=reason,
        restarts=int(restarts or 0),
        start=start,
        time_limit=limit,
        nodes=nodes,
        exit_code="" if state not in FINISHED else _exit_code(int(status or 0)),
    )


def _exit_code(status: int) -> str:
    """Turns a wait status into `CODE:SIGNAL`, like sacct; shells report 128 + signal."""
    code, signum = status >> 8, status & 127
    return f"0:{code - 128}" if code > 128 else f"{code}:{signum}"


def _merge(queued: SlurmJob | None, accounted: SlurmJob) -> SlurmJob:
    """Merges sacct's record with the fields that squeue still knows better."""
    if queued is None:
        return accounted
    return replace(
        accounted,
        reason=queued.reason,
        restarts=max(accounted.restarts, queued.restarts),
        exit_code=queued.exit_code or accounted.exit_code,
    )


def _known(value: str) -> str:
    return "" if value in ("None", "N/A", "Unknown", "None assigned", "(null)") else value


def _accounted_jobs(text: str) -> dict[str, SlurmJob]:
    """Reads sacct records; the last of several for a job is used, the others are restarts."""
    jobs: dict[str, tuple[tuple[str, str], SlurmJob]] = {}
    for line in text.splitlines():
        values = line.split("|")
        if len(values) < len(SACCT_FIELDS):
            continue
        ids, state, code, submit, start, nodes = map(_known, values[: len(SACCT_FIELDS)])
        state, _, by = state.partition(" by ")
        order = (submit, start)
        for name in expand(ids):
            before = jobs.get(name)
            restarts = before[1].restarts + 1 if before else 0
            record = SlurmJob(
                name,
                state.rstrip("+"),
                restarts=restarts,
                start=start,
                nodes=nodes,
                exit_code=code,
                ended_by=_user(by),
            )
            if before and order < before[0]:
                order, record = before[0], replace(before[1], restarts=restarts)
            jobs[name] = (order, record)
    return {name: record for name, (_, record) in jobs.items()}


def _user(number: str) -> str:
    try:
        return pwd.getpwuid(int(number)).pw_name
    except (ValueError, KeyError):
        return number


def expand(ids: str) -> list[str]:
    """Returns the individual jobs of `12`, `12_3` or `12_[0,3-5,6-10:2%4]`."""
    match = re.fullmatch(r"(\d+)_\[([\d,:-]+)(?:%\d+)?\]", ids)
    if not match:
        return [ids]
    base, parts = match.groups()
    names = []
    for part in parts.split(","):
        numbers, _, step = part.partition(":")
        first, _, last = numbers.partition("-")
        names += [
            f"{base}_{index}"
            for index in range(int(first), int(last or first) + 1, int(step or 1))
        ]
    return names


def is_alive_here(job: str, folder: Path) -> bool:
    """Returns whether a local job of a run folder is still controlled by its process on this machine.

    Process ids are reused, so the command line must also name the folder.
    """
    proc = Path("/proc")
    if not proc.is_dir():
        return _exists(int(job))
    try:
        command = (proc / job / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return False
    folders = [
        at / "submit" for run in (folder.absolute(), folder.resolve()) for at in (run, run.parent)
    ]
    for module in CONTROLLERS:
        if module in command[:-1]:
            return Path(command[command.index(module) + 1]).resolve() in folders
        if any(module in text for text in command):  # the shell that becomes the controller
            return any(str(at) in text for at in folders for text in command)
    return False


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
