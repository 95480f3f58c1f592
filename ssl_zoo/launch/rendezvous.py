"""Rendezvous of a job's ranks: rank 0 opens a free port and writes its address to the run folder.

A port computed from the job id, as is common, may be in use; a port assigned by the operating
system to a listening store cannot be.
"""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from ssl_zoo.errors import UserError
from ssl_zoo.runs.job import current_job

SECONDS_TO_MEET = 600.0


@contextmanager
def rendezvous(
    folder: Path,
    *,
    rank: int,
    local_rank: int,
    world_size: int,
    timeout_s: float = SECONDS_TO_MEET,
) -> Iterator[Any]:
    """Sets this rank's environment variables like `torchrun`, and yields the ranks' store.

    Args:
        folder: a folder on a file system shared by all nodes.
        timeout_s: seconds that ranks wait for each other.

    Yields:
        The store; None for a single process.

    Raises:
        UserError: rank 0 did not start in time, or cannot be reached.
    """
    own = {"RANK": rank, "LOCAL_RANK": local_rank, "WORLD_SIZE": world_size}
    # CUDA_VISIBLE_DEVICES is not changed: the launcher's binding is kept.
    os.environ.update({name: str(value) for name, value in own.items()})
    if world_size == 1:
        yield None
        return
    file = folder / f".meet-{_this_start()}"
    store = _open(file, world_size, timeout_s) if rank == 0 else _find(file, world_size, timeout_s)
    try:
        yield store
    finally:
        if rank == 0:
            file.unlink(missing_ok=True)


def _this_start() -> str:
    """Returns a name shared by all ranks of this start of the job, and by no other start."""
    job = current_job()
    if job is None:
        return os.environ.get("SUBMITIT_LOCAL_JOB_ID", "local")
    return f"{job.id}-{job.restart}-{os.environ.get('SLURM_STEP_ID', '0')}"


def _open(file: Path, world_size: int, timeout_s: float) -> Any:
    from ssl_zoo.files import write_text

    address = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
    store = _connect(address, 0, world_size, timeout_s, is_master=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps({"address": address, "port": store.port}))
    return store


def _find(file: Path, world_size: int, timeout_s: float) -> Any:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            place = json.loads(file.read_text(encoding="utf-8"))
            break
        except FileNotFoundError:
            if time.monotonic() > deadline:
                raise UserError(
                    f"rank 0 did not open '{file}' within {timeout_s:.0f} s; check its log, and "
                    "that all nodes share that folder"
                ) from None
            time.sleep(0.1)
    return _connect(place["address"], place["port"], world_size, timeout_s)


def _connect(
    address: str,
    port: int,
    world_size: int,
    timeout_s: float,
    *,
    is_master: bool = False,
) -> Any:
    from torch import distributed

    try:
        return distributed.TCPStore(  # type: ignore[attr-defined]
            address,
            port,
            world_size,
            is_master,
            timeout=timedelta(seconds=timeout_s),
            wait_for_workers=False,
        )
    except RuntimeError as error:  # DistNetworkError and related errors
        raise UserError(
            f"node '{address}', where rank 0 runs, cannot be reached at port {port}: "
            f"{str(error).splitlines()[0]}"
        ) from None
