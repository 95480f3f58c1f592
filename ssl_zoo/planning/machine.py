"""What a machine offers to training: processors, memory and device."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from ssl_zoo.data.cores import granted_cores

_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Files with the memory limit of a container, in version 2 and 1 of Linux's control groups."""
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
