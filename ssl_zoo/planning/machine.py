"""What a machine offers to training: processors, memory and device."""

import math
import os
from dataclasses import dataclass
from pathlib import Path

import torch

_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Files with the memory limit of a container, in version 2 and 1 of Linux's control groups."""
_QUOTA = "/sys/fs/cgroup/cpu.max"
_QUOTA_1 = ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us")
"""Files with the share of the processors that a container may use, in version 2 and 1."""

_PROCESSORS = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Machine:
    """Resources of a process.

    Attributes:
        cores: processor cores that it may use.
        memory_gb: main memory in GB, or a container's share of it; 0 if unknown.
        gpu: name of the GPU; empty without one.
        has_bf16: whether the GPU computes in bf16.
        cpu_has_bf16: whether the processor has instructions for bf16.
    """

    cores: int
    memory_gb: float
    gpu: str = ""
    has_bf16: bool = False
    cpu_has_bf16: bool = False

    def __str__(self) -> str:
        """Describes it, as in `2 cores, 24 GB, no GPU`."""
        memory = f", {self.memory_gb:.0f} GB" if self.memory_gb else ""
        cores = f"{self.cores} core{'' if self.cores == 1 else 's'}"
        return f"{cores}{memory}, {self.gpu or 'no GPU'}"


def this_machine() -> Machine:
    """Returns the resources of this process."""
    cores = min(granted_cores().values())
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    has_bf16 = bool(gpu) and torch.cuda.is_bf16_supported(including_emulation=False)
    return Machine(cores, _memory_bytes() / 1e9, gpu, has_bf16, _cpu_has_bf16())


def _cpu_has_bf16() -> bool:
    try:
        lines = _PROCESSORS.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return False
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(flags)


def granted_cores() -> dict[str, int]:
    """Returns the number of cores that this process may use, by who grants them.

    The smallest counts: `affinity` is what the system lets it run on, `control group` the quota of a
    container, and `SLURM` what the job asked for (`SLURM_CPUS_PER_TASK`).
    """
    affinity = getattr(os, "sched_getaffinity", None)
    found = {"affinity": len(affinity(0)) if affinity else os.cpu_count() or 1}
    quota = _quota()
    if quota is not None:
        found["control group"] = max(1, math.floor(quota))
    asked = os.environ.get("SLURM_CPUS_PER_TASK", "")
    if asked.isdigit() and int(asked):
        found["SLURM"] = int(asked)
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


def _memory_bytes() -> int:
    try:
        found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0
    for file in _LIMITS:
        try:
            text = Path(file).read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            found = min(found, int(text))
    return found
