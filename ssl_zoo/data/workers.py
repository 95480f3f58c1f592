"""What a machine grants to loader processes: cores, and shared memory for batches on their way."""

import math
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from ssl_zoo import distributed
from ssl_zoo.data.cores import SLURM, affinity, granted_cores
from ssl_zoo.errors import UserError

SHARED_MEMORY = Path("/dev/shm")
"""Where loader processes put tensors for the main process; containers have 64 MB there by default."""
USED = 0.4
"""Largest part of the free shared memory that a loader plans for: another one may run beside that of
training, for a pass between epochs or an evaluation."""
MOST = 16
"""Largest number of loader processes of a rank that nobody asked for."""
JOB = 64
"""Largest number of images that a loader process reads before it hands them over. What a job costs beside
its images is as much as about ten small ones."""


@dataclass(frozen=True)
class Grant:
    """What a rank may use for its loader processes.

    Attributes:
        num_workers: loader processes.
        memory: bytes of shared memory; infinite if there is no limit to be found.
    """

    num_workers: int
    memory: float = math.inf


ALONE = Grant(0)
"""Images are read in the main process."""


@dataclass(frozen=True)
class Cut:
    """How batches are cut into jobs.

    Attributes:
        job: images of a job.
        ahead: jobs that each loader process has been given and whose result is not used yet.
        wanted: bytes of shared memory for two batches on their way; 0 if they fit.
    """

    job: int
    ahead: int
    wanted: int = 0


def granted(wanted: int | None = None) -> Grant:
    """Returns what this rank may use; ranks of a machine share it. All ranks must call it.

    Args:
        wanted: number of loader processes that is asked for; None for one on each core, up to
            `MOST`, and none on a single core.
    """
    host, own = socket.gethostname(), affinity()
    ours = distributed.all_gather_object((host, own))
    cores = granted_cores()
    of_task = cores.pop(SLURM, math.inf)
    most = int(max(1, min(min(cores.values()) // ours.count((host, own)), of_task)))
    ranks = sum(name == host for name, _ in ours)
    if wanted is None:
        wanted = MOST if most > 1 else 0
    return Grant(min(wanted, most), shared_memory() / ranks)


def shared_memory() -> float:
    """Returns the bytes of shared memory that may be used; infinite where it is not a folder."""
    try:
        found = os.statvfs(SHARED_MEMORY)
    except OSError:
        return math.inf
    return USED * found.f_bavail * found.f_frsize


def cut(batch_size: int, image_bytes: int, grant: Grant) -> Cut:
    """Returns how batches are cut into jobs, so that two of them are on their way if they fit.

    Args:
        batch_size: images of a batch.
        image_bytes: size of all views of an image.
        grant: loader processes, at least one, and their memory.

    Raises:
        UserError: there is not enough memory for one image from each loader process.
    """
    workers = grant.num_workers
    n_jobs = -(-batch_size // JOB)
    job = -(-batch_size // n_jobs)
    ahead = max(2, -(-2 * n_jobs // workers))
    wanted = _on_their_way(job, ahead, workers) * image_bytes
    fewer = 0
    while (needed := _on_their_way(job, ahead, workers) * image_bytes) > grant.memory:
        fewer = wanted
        if ahead > 2:
            ahead -= 1
        elif job > 1:
            job = -(-job // 2)
        elif ahead > 1:
            ahead -= 1
        else:
            raise UserError(
                f"{workers} loader processes need {_mb(needed)} of shared memory, but "
                f"{_mb(grant.memory)} of '{SHARED_MEMORY}' can be used; set num_workers=0, or "
                f"{advice(needed)}"
            )
    return Cut(job, ahead, fewer)


def advice(n_bytes: float) -> str:
    """Returns how a container gets this much shared memory for one rank."""
    return (
        f"start the container with --shm-size={math.ceil(n_bytes / USED / 2**30)}g or --ipc=host"
    )


def shortage(made: Cut, grant: Grant) -> str:
    """Returns in one line that memory for batches on their way is short; empty if it is not."""
    if not made.wanted:
        return ""
    return (
        f"batches on their way from {grant.num_workers} loader processes need {_mb(made.wanted)} of shared "
        f"memory, but {_mb(grant.memory)} of '{SHARED_MEMORY}' can be used, so fewer images are read "
        f"ahead; {advice(made.wanted)}"
    )


def _on_their_way(job: int, ahead: int, workers: int) -> int:
    """Returns the number of images in shared memory, with those of the job that is being taken out."""
    return (workers * ahead + 1) * job


def _mb(n_bytes: float) -> str:
    return f"{n_bytes / 1e6:.0f} MB" if n_bytes >= 1e6 else f"{n_bytes / 1e3:.0f} kB"
