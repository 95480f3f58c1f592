"""The job that this process belongs to, read from the environment."""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Job:
    """One start of one job.

    Attributes:
        id: as `squeue` prints it, `12` or `12_3` for a point of an array.
        restart: how often SLURM has started the job before.
        node: the node that this process runs on.
    """

    id: str
    restart: int
    node: str


def is_submitted() -> bool:
    """Returns whether this process is a task of a job that `ssl-zoo submit` made."""
    return bool(os.environ.get("SUBMITIT_EXECUTOR"))


def current_job() -> Job | None:
    """Returns the SLURM job that this process runs in, None outside of one."""
    number = os.environ.get("SLURM_JOB_ID")
    if not number:
        return None
    array, index = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return Job(
        # The number of an array's last point is also that of the array: only this form is safe.
        id=f"{array}_{index}" if array and index else number,
        restart=int(os.environ.get("SLURM_RESTART_COUNT", "0")),
        node=os.environ.get("SLURMD_NODENAME", ""),
    )
