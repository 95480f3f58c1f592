"""The logs of a run's job: their last lines, and following them across restarts."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ssl_zoo.errors import UserError
from ssl_zoo.jobs.causes import LOG, log_files
from ssl_zoo.jobs.finding import run_name
from ssl_zoo.jobs.queue import Slurm
from ssl_zoo.jobs.status import RunStatus, status
from ssl_zoo.runs.history import History

LOOK_S = 0.5
"""Seconds between checks of the logs."""
ASK_S = 5.0
"""Seconds between queries to SLURM while following."""
BLOCK = 64 * 1024

Say = Callable[[str], None]


@dataclass(frozen=True)
class Reader:
    """Which logs to show, and where to write the lines.

    Attributes:
        rank: rank whose log to show; None for all ranks, with the rank before each line.
        lines: number of last lines to show first.
        out: receives the lines of the logs.
        note: receives messages about the job.
    """

    rank: int | None
    lines: int
    out: Say
    note: Say

    def wants(self, rank: int) -> bool:
        """Returns whether to show the log of a rank."""
        return self.rank in (None, rank)

    def show(self, rank: int, lines: Sequence[str]) -> None:
        """Writes lines to `out`."""
        for line in lines:
            self.out(f"[{rank}] {line}" if self.rank is None else line)


def print_log(folder: Path, reader: Reader) -> None:
    """Shows the last lines of the newest job's logs, or of the previous job's if it has none yet.

    Raises:
        UserError: the run has no log, or none of this rank.
    """
    _check_rank(folder, reader)
    now = status(folder)
    job = _newest_job_with_logs(folder)
    if now.job is not None and now.job != job:
        reader.note(_line(now))
    if job is None:
        if now.job is not None and not now.is_over:
            return
        raise UserError(_no_log(now))
    if now.job is not None and now.job != job:
        reader.note(f"log of the previous job {job}:")
    files = log_files(folder, job)
    if reader.rank is not None and reader.rank not in files:
        raise UserError(
            f"job {job} of '{now.name}' has no log of rank {reader.rank}; {_has(files)}"
        )
    for rank, path in files.items():
        if reader.wants(rank):
            reader.show(rank, Tail(path, last=reader.lines).read(is_last=True))


def follow_log(folder: Path, reader: Reader) -> RunStatus:
    """Shows the last lines, then new lines as they are added, until the run has ended.

    A requeued job appends to the same files; a resubmitted run has new ones.

    Returns:
        How the run ended.

    Raises:
        UserError: the run was not submitted, or has no such rank.
    """
    _check_rank(folder, reader)
    slurm = Slurm()
    now = status(folder, slurm)
    if now.job is None and _newest_job_with_logs(folder) is None:
        raise UserError(_no_log(now))
    if now.is_over:
        print_log(folder, reader)
        reader.note(_line(now))
        return now
    following = _Following(folder, reader)
    reader.note(_line(now))
    asked = time.monotonic()
    while True:
        following.look()
        if time.monotonic() - asked >= ASK_S:
            before, now = now, status(folder, slurm)
            asked = time.monotonic()
            if now.is_over:
                following.look(is_last=True)
                reader.note(_line(now))
                return now
            if (before.state, before.job) != (now.state, now.job):
                reader.note(_line(now))
        time.sleep(LOOK_S)


class Tail:
    """Reads new lines of a file that may not exist yet or may be replaced.

    Args:
        path: the file.
        last: number of lines before the current end to start from; by default the start of the file.
    """

    def __init__(self, path: Path, *, last: int | None = None) -> None:
        self.path = path
        self._file: IO[bytes] | None = None
        self._rest = b""
        if last is not None:
            self._open()
            if self._file is not None:
                self._file.seek(_start_of_last(self._file, last))

    def read(self, *, is_last: bool = False) -> list[str]:
        """Returns complete lines; with `is_last` also an incomplete one."""
        if self._file is None:
            self._open()
        if self._file is None:
            return []
        lines = self._new_lines()
        if self._is_stale():
            lines += [_text(self._rest)] if self._rest else []
            self.close()
            self._open()
            lines += self._new_lines()
        if is_last:
            lines += [_text(self._rest)] if self._rest else []
            self.close()
        return lines

    def close(self) -> None:
        """Closes the file; the next read starts from its beginning."""
        if self._file is not None:
            self._file.close()
        self._file, self._rest = None, b""

    def _open(self) -> None:
        try:
            self._file = self.path.open("rb")
        except OSError:
            self._file = None

    def _new_lines(self) -> list[str]:
        if self._file is None:
            return []
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        return [_text(line) for line in lines]

    def _is_stale(self) -> bool:
        """Returns whether the file was truncated or replaced."""
        assert self._file is not None
        mine = os.fstat(self._file.fileno())
        try:
            there = self.path.stat()
        except OSError:
            return False
        return mine.st_ino != there.st_ino or there.st_size < self._file.tell()


class _Following:
    """The logs of the newest job of a run."""

    def __init__(self, folder: Path, reader: Reader) -> None:
        self.folder, self.reader = folder, reader
        self.tails: dict[tuple[str, int], Tail] = {}
        job = _newest_job_with_logs(folder)
        if job is None or job != (_submitted_jobs(folder) or [job])[-1]:
            return  # all future logs are new
        for rank, path in log_files(folder, job).items():
            if reader.wants(rank):
                self.tails[job, rank] = Tail(path, last=reader.lines)

    def look(self, *, is_last: bool = False) -> None:
        """Shows lines added since the last call."""
        for job in _submitted_jobs(self.folder)[-1:]:
            for rank, path in log_files(self.folder, job).items():
                if self.reader.wants(rank) and (job, rank) not in self.tails:
                    self.tails[job, rank] = Tail(path)
        for (_, rank), tail in self.tails.items():
            self.reader.show(rank, tail.read(is_last=is_last))


def _start_of_last(file: IO[bytes], count: int) -> int:
    """Returns the offset of the last lines of a file, reading as little as possible."""
    position = file.seek(0, os.SEEK_END)
    if count <= 0:
        return position
    ends = count + 1  # including that of the line before
    if position:
        file.seek(position - 1)
        ends -= file.read(1) != b"\n"  # the last line is not complete yet
    while position > 0:
        size = min(BLOCK, position)
        position -= size
        file.seek(position)
        block = file.read(size)
        at = len(block)
        while ends and (at := block.rfind(b"\n", 0, at)) >= 0:
            ends -= 1
        if not ends:
            return position + at + 1
    return 0


def _text(line: bytes) -> str:
    return line.decode(errors="replace").rstrip("\r")


def _check_rank(folder: Path, reader: Reader) -> None:
    submitted = [event for event in History(folder).read() if event.event == "submitted"]
    tasks = submitted[-1].tasks if submitted else None
    if tasks and reader.rank is not None and reader.rank >= tasks:
        has = f"ranks 0 to {tasks - 1}" if tasks > 1 else "only rank 0"
        raise UserError(f"'{run_name(folder)}' has no rank {reader.rank}; it has {has}")


def _submitted_jobs(folder: Path) -> list[str]:
    """Returns the jobs of a run, newest last."""
    events = History(folder).read()
    return [e.job for e in events if e.event == "submitted" and e.job]


def _newest_job_with_logs(folder: Path) -> str | None:
    jobs = [job for job in _submitted_jobs(folder) if log_files(folder, job)]
    if jobs:
        return jobs[-1]
    dated = []  # the history may be missing
    for path in (folder / "submit").glob("*_log.out"):
        match = LOG.fullmatch(path.name)
        if match and path.exists():
            dated.append((path.stat().st_mtime, match["job"]))
    return max(dated)[1] if dated else None


def _line(now: RunStatus) -> str:
    job = f", job {now.job}" if now.job else ""
    return f"{now.name}{job}: {now.state}" + (f": {now.reason}" if now.reason else "")


def _no_log(now: RunStatus) -> str:
    if now.job is None:
        return f"'{now.name}' has no log: it was not submitted; its output went to its terminal"
    return f"job {now.job} of '{now.name}' left no log; it is {_line(now).partition(': ')[2]}"


def _has(files: dict[int, Path]) -> str:
    ranks = [*files]
    return f"there are {ranks[0]} to {ranks[-1]}" if len(ranks) > 1 else f"there is {ranks[0]}"
