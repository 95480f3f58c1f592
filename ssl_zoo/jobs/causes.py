"""Why a job ended: from the run's history and the end of its logs."""

import re
from dataclasses import dataclass
from pathlib import Path

from ssl_zoo.runs.history import Event

TAIL_BYTES = 64 * 1024
"""Bytes at the end of a log that are searched for the cause."""
LOG = re.compile(r"(?P<job>\d+(_\d+)?)_(?P<rank>\d+)_log\.out")
"""File name of a log in the `submit` folder."""

_START = "Starting with JobEnvironment"  # submitit's first line of each start
_MEMORY = re.compile(r"exceeded (job )?memory limit|oom[-_ ]?kill|out of memory handler", re.I)
_DUE_TO = re.compile(r"CANCELLED AT .* DUE TO (?P<cause>[A-Z ]+[A-Z])")
_TASK = re.compile(r"^srun: error: (?P<what>.*tasks? [\d,-]+: (?!Terminated|Exited).*)")
_EXIT = re.compile(r"^srun: error: (?P<what>.*tasks? [\d,-]+: Exited with exit code .*)")
_OF_OTHERS = re.compile(
    r"srun: |slurmstepd|submitit |\s|\d{4}-\d\d-\d\d |$"
)  # lines with a date are from training
_CANCELLED = re.compile(r"JOB \S+ ON .*CANCELLED AT")
_OURS = re.compile(r"^ssl-zoo(, rank \d+)?: (?P<what>.*)")
_PYTHON = re.compile(r"^(\w+\.)*\w*(Error|Exception|Interrupt|Exit|Warning|Killed|Timeout)\b.*")
_CONSEQUENCE = re.compile(
    r"connection (reset|closed|refused|was)|broken pipe|closed by peer|gloo|nccl|DistBackendError"
    r"|remote process exited|socket timeout|timed out waiting|store.*(timeout|timed out)|heartbeat",
    re.I,
)
_SIGNALS = {
    "SIGTERM": "asked to stop (SIGTERM)",
    "SIGUSR2": "asked to save and leave (SIGUSR2)",
    "SIGINT": "stopped by Ctrl-C",
}


@dataclass(frozen=True)
class LogEnd:
    """What the logs of a job's last start say about its end.

    Attributes:
        system: cause reported by SLURM: memory, time, a killed task.
        program: last error of the program: one of our one-line errors, or the last line of a traceback.
        task: the first task that ended with an exit status, and the status.
        line: the last line that is not from SLURM, submitit or training, such as a shell error.
    """

    system: str = ""
    program: str = ""
    task: str = ""
    line: str = ""

    @property
    def words(self) -> str:
        """The most informative cause; empty if there is only a last line."""
        return self.system or self.program or (self.task and self.with_line(self.task))

    def with_line(self, text: str) -> str:
        """Returns an explanation with the last line appended, which may be more informative."""
        return f"{text}; the log ends with: {self.line}" if self.line else text


def log_files(folder: Path, job: str) -> dict[int, Path]:
    """Returns the logs of a run's job by rank; empty before the job has started."""
    found = {}
    for path in (folder / "submit").glob(f"{job}_*_log.out"):
        match = LOG.fullmatch(path.name)
        # Not 12_3_0 for job 12; a point of an array has links to logs that may not exist yet.
        if match and match["job"] == job and path.exists():
            found[int(match["rank"])] = path
    return dict(sorted(found.items()))


def read_end(path: Path, size: int = TAIL_BYTES) -> str:
    """Returns the last bytes of a file, from the start of a line; empty if it does not exist."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, 2)
            file.seek(max(0, end - size))
            data = file.read()
    except OSError:
        return ""
    if end > size:
        data = data.partition(b"\n")[2]
    return data.decode(errors="replace")


def log_end(folder: Path, job: str) -> LogEnd:
    """Reads the end of the logs of a job's last start."""
    starts = [_last_start(read_end(path)) for path in log_files(folder, job).values()]
    lines = [line for start in starts for line in start]
    tasks = [match["what"] for line in lines if (match := _EXIT.match(line))]
    others = [line for line in lines if not _OF_OTHERS.match(line)]
    programs = [said for said in map(_program_cause, starts) if said]
    causes = [said for said in programs if not is_consequence(said)]
    return LogEnd(
        system=_system_cause(lines),
        program=next(iter(causes or programs), ""),
        task=tasks[0] if tasks else "",
        line=others[-1] if others else "",
    )


def is_consequence(reason: str) -> bool:
    """Returns whether an error only shows that another rank has ended."""
    return bool(_CONSEQUENCE.search(reason))


def cause(events: list[Event], log: LogEnd) -> str:
    """Returns why the last start of a run ended; empty if neither history nor log show it.

    Args:
        events: the run's history since its submission.
    """
    since = _since_last_start(events)
    ends = [event for event in since if event.event in ("stopped", "requeued", "failed")]
    if ends and ends[-1].event == "failed":
        failed = [event for event in ends if event.event == "failed"]
        roots = [event for event in failed if not is_consequence(event.reason or "")]
        if not roots and (log.system or log.task):
            return log.system or log.task
        return _failed(roots[0] if roots else failed[0])
    if ends and ends[-1].event == "requeued":
        return f"{_saved(ends[-1])}, then requeued itself"
    if ends:
        reason = ends[-1].reason or "stopped"
        words = _SIGNALS.get(reason, reason)
        return f"{words}, {_saved(ends[-1])}" if reason in _SIGNALS else words
    return log.words


def leaving(events: list[Event], log: LogEnd) -> str:
    """Returns why the previous start of a queued job ended, and what it saved."""
    due = log.system.removeprefix("cancelled ") if "due to" in log.system else ""
    saved = cause(events, LogEnd())
    return ", ".join(part for part in (due, saved) if part)


def _since_last_start(events: list[Event]) -> list[Event]:
    starts = [position for position, event in enumerate(events) if event.event == "started"]
    return events[starts[-1] :] if starts else events


def _failed(event: Event) -> str:
    reason = event.reason or "failed"
    return f"rank {event.rank}: {reason}" if event.rank else reason


def _saved(event: Event) -> str:
    return f"saved at step {event.step}" if event.step is not None else "nothing to save"


def _last_start(text: str) -> list[str]:
    lines = text.splitlines()
    starts = [position for position, line in enumerate(lines) if _START in line]
    return lines[starts[-1] :] if starts else lines


def _system_cause(lines: list[str]) -> str:
    lines = [
        line
        for line in lines
        if any(word in line for word in ("error", "oom", "memory", "CANCELLED"))
    ]
    memory = [line for line in lines if _MEMORY.search(line)]
    if memory:  # the longest line has the numbers
        return f"out of memory (slurm.mem_gb): {_after_error(max(memory, key=len))}"
    for line in lines:
        if match := _DUE_TO.search(line):
            return f"cancelled due to {match['cause'].lower()}"
    for line in lines:
        if match := _TASK.match(line):
            return match["what"]
    return next(("cancelled" for line in lines if _CANCELLED.search(line)), "")


def _after_error(line: str) -> str:
    return line.partition("error: ")[2].strip() or line.strip()


def _program_cause(lines: list[str]) -> str:
    """Returns the last informative line; for a traceback, the line with the exception."""
    in_traceback, said = False, ""
    for line in lines:
        if line.startswith("Traceback (most recent call last)"):
            in_traceback = True
        elif match := _OURS.match(line):
            said = match["what"]
        elif in_traceback and _PYTHON.match(line):
            in_traceback, said = False, line
    return said
