"""Trains several runs at a time on this machine, each in a process of its own."""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from ssl_zoo.data.cores import granted_cores
from ssl_zoo.errors import UserError
from ssl_zoo.plain_text import printable
from ssl_zoo.runs.config import RunConfig
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.training.outcome import Interrupted
from ssl_zoo.training.signals import StopRequest, listen

logger = logging.getLogger(__name__)

LOGS = "logs"
"""Name of the folder of what the processes say, in that of a comparison."""
_POLL_S = 0.1


class StoppedTogether(Interrupted):
    """Several runs were stopped on request, after each had saved."""

    def __init__(self, folder: Path, signum: int) -> None:
        super().__init__(folder, 0, signum)
        self.args = (f"stopped; the runs are saved in '{folder}'",)


@dataclass(frozen=True)
class _Process:
    """A run that is being trained."""

    folder: Path
    log: Path
    slot: int
    process: subprocess.Popen[bytes]


def train_side_by_side(
    runs: Sequence[tuple[RunConfig, RunFolder]], *, n_at_once: int, folder: Path
) -> None:
    """Trains runs in processes of their own, a number of them at a time; all must succeed.

    If one fails, no other is started, and those that are training end first.

    Args:
        runs: settings and folder of each run.
        n_at_once: number of processes; each gets an equal part of the processor cores, and one of
            several GPUs.
        folder: folder of the comparison, for the logs.

    Raises:
        UserError: a run failed, or its folder is in use.
        StoppedTogether: a signal requested a stop; all runs have saved.
    """
    waiting = list(runs)
    busy: list[_Process] = []
    failed: list[str] = []
    with listen() as request, _ending(busy):
        while busy or (waiting and not failed):
            while waiting and not failed and len(busy) < n_at_once:
                slot = min({*range(n_at_once)} - {one.slot for one in busy})
                config, run = waiting.pop(0)
                busy.append(_start(config, run, slot, n_at_once, folder / LOGS))
            _stop_if_asked(request, busy, folder)
            for one in [one for one in busy if one.process.poll() is not None]:
                busy.remove(one)
                if one.process.returncode:
                    failed.append(_why(one))
                else:
                    logger.info("trained '%s', %d to go", one.folder, len(waiting) + len(busy))
            time.sleep(_POLL_S)
    if failed:
        raise UserError(f"{failed[0]}; the same command continues the other runs")


def _start(config: RunConfig, run: RunFolder, slot: int, n_at_once: int, logs: Path) -> _Process:
    with run.lock():
        run.check(config)
        run.create(config)
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"{run.path.name}.log"
    environment = {**os.environ}
    share = max(1, min(granted_cores().values()) // n_at_once)
    environment.setdefault("OMP_NUM_THREADS", str(share))
    n_gpus = torch.cuda.device_count()
    if n_gpus > 1:
        given = environment.get("CUDA_VISIBLE_DEVICES")
        names = given.split(",") if given else [*map(str, range(n_gpus))]
        environment["CUDA_VISIBLE_DEVICES"] = names[slot % len(names)]
    logger.info("training '%s', see '%s'", run.path, log)
    with log.open("ab") as written:
        process = subprocess.Popen(
            [sys.executable, "-m", "ssl_zoo", "train", "-o", str(run.path)],
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=subprocess.STDOUT,
            env=environment,
        )
    return _Process(run.path, log, slot, process)


def _stop_if_asked(request: StopRequest, busy: list[_Process], folder: Path) -> None:
    if not request.signum:
        return
    _end(busy)
    raise StoppedTogether(folder, request.signum)


@contextmanager
def _ending(busy: list[_Process]) -> Iterator[None]:
    """Leaves no process behind."""
    try:
        yield
    finally:
        _end(busy)


def _end(busy: list[_Process]) -> None:
    """Asks all processes to save and stop, and waits for them."""
    for one in busy:
        if one.process.poll() is None:
            one.process.terminate()
    for one in busy:
        one.process.wait()


def _why(one: _Process) -> str:
    lines = one.log.read_text(encoding="utf-8", errors="replace").split("\n")
    last = next((line for line in reversed(lines) if line.strip()), "")
    last = printable(last.removeprefix("ssl-zoo: "))
    return f"training '{one.folder}' ended with status {one.process.returncode}: {last} (see '{one.log}')"
