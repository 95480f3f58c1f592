"""What rounding depends on: a run that resumes elsewhere may end with other last bits."""

import platform
from collections.abc import Mapping
from pathlib import Path

import torch

from ssl_zoo import distributed


def arithmetic(
    device: torch.device,
    *,
    views_by: str | None = None,
    deterministic: bool = False,
    compiled: bool = False,
) -> dict[str, str]:
    """Returns what the rounding of a run depends on, over all ranks; all ranks must call it.

    Args:
        device: device that this rank trains on.
        views_by: what makes the views, if that is a choice.
        deterministic: whether a GPU uses deterministic kernels.
        compiled: whether torch compiled the networks.
    """
    own = {
        "number of threads": str(torch.get_num_threads()),
        "torch": torch.__version__ + (", compiled" if compiled else ""),
        "processor": _processor(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    }
    if device.type == "cuda":
        own["kernels"] = "deterministic" if deterministic else "fastest"
    if views_by is not None:
        own["views by"] = views_by
    ranks = distributed.all_gather_object(own)
    return {name: " and ".join(sorted({one[name] for one in ranks})) for name in own}


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Returns what differs between two starts of a run, in words; empty if nothing does."""
    return "; ".join(
        f"{name} {before[name]} before, {value} now"
        for name, value in now.items()
        if before.get(name, value) != value
    )


def _processor() -> str:
    """Returns the model of the processor and the vector instructions that torch uses."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    model = models[0] if models else platform.processor() or platform.machine()
    return f"{model} ({torch.backends.cpu.get_cpu_capability()})"
