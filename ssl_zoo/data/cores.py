"""The processor cores that a process may use, and who grants them."""

import math
import os
from pathlib import Path

_QUOTA = "/sys/fs/cgroup/cpu.max"
_QUOTA_1 = ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us")
"""Files with the share of the processors that a container may use, in version 2 and 1."""
SLURM = "SLURM"
"""Who grants cores to one task of a job; the others grant them to all processes of a container."""


def affinity() -> list[int]:
    """Returns the cores that the system lets this process run on; empty if it does not say."""
    found = getattr(os, "sched_getaffinity", None)
    return sorted(found(0)) if found else []


def granted_cores() -> dict[str, int]:
    """Returns the number of cores that this process may use, by who grants them.

    The smallest counts: `affinity` is what the system lets it run on, `control group` the quota of a
    container, and `SLURM` what the job asked for (`SLURM_CPUS_PER_TASK`).
    """
    found = {"affinity": len(affinity()) or os.cpu_count() or 1}
    quota = _quota()
    if quota is not None:
        found["control group"] = max(1, math.floor(quota))
    asked = os.environ.get("SLURM_CPUS_PER_TASK", "")
    if asked.isdigit() and int(asked):
        found[SLURM] = int(asked)
    return found


def _quota() -> float | None:
    """Returns the processors' worth of time that a container may use; None without a limit."""
    for files in ((_QUOTA,), _QUOTA_1):
        try:
            words = " ".join(Path(file).read_text() for file in files).split()
            quota, period = int(words[0]), int(words[1])
        except (OSError, ValueError, IndexError):  # not there, or `max`
            continue
        if quota > 0 and period > 0:
            return quota / period
    return None
