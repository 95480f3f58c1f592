"""Starts of training: one process, several ranks, or a copy of this process.

A run that is `forked` continues in a copy of this process, which has imported everything already: the
command is the same, and 200 runs need no 600 times ten seconds of imports.
"""

import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from tests.soak import paced

PATIENCE_S = float(os.environ.get("SOAK_PATIENCE", "240"))
"""How long a process is waited for that ends within seconds where the machine is not busy."""


@dataclass
class Start:
    """The processes of one start, a group of their own, and what they print."""

    pids: list[int]
    log: Path
    codes: dict[int, int] = field(default_factory=dict)

    @property
    def group(self) -> int:
        """The process group."""
        return self.pids[0]

    def is_alive(self) -> bool:
        """Whether one of the processes has not ended."""
        for pid in self.pids:
            if pid not in self.codes:
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    self.codes[pid] = os.waitstatus_to_exitcode(status)
        return len(self.codes) < len(self.pids)

    def wait(self, seconds: float) -> bool:
        """Returns whether all processes end within so many seconds."""
        deadline = time.monotonic() + seconds
        while self.is_alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def signal(self, signum: int, *, group: bool = False, rank: int = 0) -> None:
        """Sends a signal to one process, or to the group; one that has ended is left alone."""
        if group:
            with suppress(ProcessLookupError):
                os.killpg(self.group, signum)
        elif self.pids[rank] not in self.codes and self.is_alive():
            os.kill(self.pids[rank], signum)

    def end(self) -> None:
        """Kills what is left."""
        self.signal(signal.SIGKILL, group=True)
        self.wait(10)

    def text(self) -> str:
        """Returns what was printed."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


def start(
    arguments: Sequence[str],
    log: Path,
    *,
    fork: bool,
    ranks: int = 1,
    environment: dict[str, str] | None = None,
    pace_s: float = 0.0,
) -> Start:
    """Starts `ssl-zoo` with these arguments.

    Args:
        log: file for what it prints.
        fork: whether to continue in copies of this process.
        ranks: number of processes, as torchrun would start them.
        environment: variables on top of those of this process.
        pace_s: seconds that each step takes longer.
    """
    shared = {**(environment or {}), paced.PACE: str(pace_s)}
    if not fork:
        command = [sys.executable, paced.__file__, "-u", "-m", "ssl_zoo", *arguments]
        with log.open("ab") as out:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, **shared},
                start_new_session=True,
            )
        process.returncode = 0  # this module waits for it
        return Start([process.pid], log)
    pids: list[int] = []
    port = str(20000 + os.getpid() % 10000 + int(time.monotonic() * 10) % 20000)
    for rank in range(ranks):
        own = dict(shared)
        if ranks > 1:
            own |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
            own |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        pids.append(_fork(arguments, log, own, pids[0] if pids else 0, pace_s))
    return Start(pids, log)


def _fork(
    arguments: Sequence[str], log: Path, variables: dict[str, str], group: int, pace_s: float
) -> int:
    """Returns the id of a copy of this process that runs the command."""
    pid = os.fork()
    if not pid:
        os.setpgid(0, group)
        _become(arguments, log, variables, pace_s)
    with suppress(PermissionError, ProcessLookupError):
        os.setpgid(pid, group or pid)
    return pid


def _become(
    arguments: Sequence[str], log: Path, variables: dict[str, str], pace_s: float
) -> NoReturn:
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    null = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, null), (1, descriptor), (2, descriptor)):
        os.dup2(source, target)
    os.environ.update(variables)
    sys.argv = ["ssl-zoo", *arguments]
    os._exit(_status(lambda: _main(pace_s)))


def _main(pace_s: float) -> None:
    from ssl_zoo.cli.main import main

    paced.install(pace_s)
    main()


def _status(work: Callable[[], None]) -> int:
    """Returns the exit status that Python would end with."""
    try:
        try:
            work()
            return 0
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else int(end.code is not None)
        except KeyboardInterrupt:
            traceback.print_exc()
            return 128 + signal.SIGINT
        except BaseException:
            traceback.print_exc()
            return 1
    finally:
        from multiprocessing import util

        util._exit_function()  # type: ignore[attr-defined]
        sys.stdout.flush()
        sys.stderr.flush()
