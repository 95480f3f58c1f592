"""The SLURM job of this process, read from the environment."""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Job:
    """A start of a job.

    Attributes:
        id: job ID as printed by `squeue`: `12`, or `12_3` for a task of an array.
        restart: number of earlier starts of the job by SLURM.
        node: node of this process.
    """

    id: str
    restart: int
    node: str


def is_submitted() -> bool:
    """Returns whether this process is a task of a job submitted by `ssl-zoo submit`."""
    return bool(os.environ.get("SUBMITIT_EXECUTOR"))


def current_job() -> Job | None:
    """Returns the SLURM job of this process, None outside a job."""
    number = os.environ.get("SLURM_JOB_ID")
    if not number:
        return None
    array, index = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return Job(
        # The last task of an array has the same job ID as the array: only this form is unambiguous.
        id=f"{array}_{index}" if array and index else number,
        restart=int(os.environ.get("SLURM_RESTART_COUNT", "0")),
        node=os.environ.get("SLURMD_NODENAME", ""),
    )
