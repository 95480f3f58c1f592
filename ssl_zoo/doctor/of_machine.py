"""Checks of the machine: processors, devices, shared memory, disk and packages."""

import importlib.metadata
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch

from ssl_zoo.data.cores import granted_cores
from ssl_zoo.doctor.diagnosis import Diagnosis
from ssl_zoo.evaluators.search.faiss_import import faiss
from ssl_zoo.planning.machine import this_machine

PART = "machine"
SHARED_MEMORY = Path("/dev/shm")
LEAST_SHARED_GB = 1.0
"""Shared memory in GB below which loader processes may fail; containers give 0.064 by default."""
LEAST_DISK_GB = 5.0
"""Free disk space in GB below which checkpoints may not fit."""
_PACKAGE = "ssl-zoo"
_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+).*?(?:;(?P<marker>.*))?$")
_EXTRA = re.compile(r"extra == ['\"](?P<extra>[\w-]+)['\"]")


def machine_findings(place: Path) -> list[Diagnosis]:
    """Returns what was found on this machine.

    Args:
        place: folder in which runs are written.
    """
    return [
        *_processors(),
        *_devices(),
        *_search(),
        *_shared_memory(),
        *free_disk(place, LEAST_DISK_GB),
        *_packages(),
    ]


def cores_in_words() -> str:
    """Describes the cores granted, as in `2 cores (affinity)`."""
    granted = granted_cores()
    by = min(granted, key=lambda name: granted[name])
    return f"{granted[by]} core{'s' * (granted[by] != 1)} ({by})"


def _processors() -> Iterator[Diagnosis]:
    granted, threads = min(granted_cores().values()), torch.get_num_threads()
    says = f"{threads} thread{'s' * (threads != 1)} on {cores_in_words()}"
    more = threads > granted
    yield Diagnosis(PART, "threads", says, f"set OMP_NUM_THREADS={granted}" if more else "")


def _devices() -> Iterator[Diagnosis]:
    machine, n_gpus = this_machine(), torch.cuda.device_count()
    is_there = any(Path("/dev").glob("nvidia[0-9]*"))
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if machine.gpu:
        yield Diagnosis(PART, "device", f"{n_gpus} x {machine.gpu}")
    elif is_there and hidden is not None and hidden.strip() in ("", "-1"):
        yield Diagnosis(
            PART,
            "device",
            "there is a GPU, but CUDA_VISIBLE_DEVICES hides it",
            "unset CUDA_VISIBLE_DEVICES",
        )
    elif is_there:
        built = torch.version.cuda or "without CUDA"
        yield Diagnosis(
            PART,
            "device",
            f"there is a GPU, but torch {torch.__version__} (built {built}) cannot use it",
            "install a torch for the driver that nvidia-smi shows",
        )
    else:
        yield Diagnosis(PART, "device", "no GPU; training uses the CPU")
    if n_gpus > 1:
        is_missing = not torch.distributed.is_nccl_available()
        yield Diagnosis(
            PART,
            "NCCL",
            "missing" if is_missing else "available",
            "install a torch with NCCL, or use one GPU" if is_missing else "",
        )


def _search() -> Iterator[Diagnosis]:
    try:
        found = faiss()
    except Exception as error:  # a broken package raises anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        yield Diagnosis(
            PART, "faiss", f"cannot be imported ({reason})", "install faiss-gpu or faiss-cpu again"
        )
        return
    counter = getattr(found, "get_num_gpus", None)
    where = f"{counter()} GPUs" if counter and counter() else "the CPU"
    yield Diagnosis(PART, "faiss", f"{found.__version__}, on {where}")


def _shared_memory() -> Iterator[Diagnosis]:
    if not SHARED_MEMORY.is_dir():
        return
    free = free_bytes(SHARED_MEMORY) / 1e9
    remedy = "start the container with --shm-size=8g, or use num_workers=0"
    is_small = free < LEAST_SHARED_GB
    yield Diagnosis(
        PART, "shared memory", f"{free:.3g} GB free for loaders", remedy if is_small else ""
    )


def free_disk(place: Path, needed_gb: float, *, part: str = PART) -> Iterator[Diagnosis]:
    """Checks that there is room at a place.

    Args:
        needed_gb: free space below which something is wrong, in GB.
    """
    there = next(path for path in (place.absolute(), *place.absolute().parents) if path.is_dir())
    free = free_bytes(there) / 1e9
    says = f"{free:.3g} GB free in '{there}'"
    if free < needed_gb:
        remedy = "make room, or write runs to another disk with SSL_ZOO_RUNS or --output"
        yield Diagnosis(part, "disk", f"{says}, below {needed_gb:.3g} GB", remedy)
    else:
        yield Diagnosis(part, "disk", says)


def free_bytes(place: Path) -> int:
    """Returns the free space at an existing folder, in bytes."""
    return shutil.disk_usage(place).free


def _packages() -> Iterator[Diagnosis]:
    """Checks required packages, and tells which extras are complete."""
    try:
        requirements = importlib.metadata.requires(_PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        yield Diagnosis(
            PART, "packages", f"{_PACKAGE} is not installed; its own requirements are unknown"
        )
        return
    missing: dict[str, list[str]] = {"": []}
    for text in requirements:
        name, marker = _parts(text)
        extra = _EXTRA.search(marker)
        lacks = missing.setdefault(extra["extra"] if extra else "", [])
        if "platform" not in marker and not _is_installed(name):
            lacks.append(name)
    required = missing.pop("")
    for ours in ("dev", "docs"):
        missing.pop(ours, None)
    yield Diagnosis(
        PART,
        "packages",
        f"missing: {', '.join(required)}" if required else "all there",
        f"pip install {' '.join(required)}" if required else "",
    )
    complete = [extra for extra, lacks in missing.items() if not lacks]
    others = [extra for extra, lacks in missing.items() if lacks]
    says = f"installed: {', '.join(complete) or 'none'}"
    if others:
        says += f"; not installed: {', '.join(others)} (pip install '{_PACKAGE}[{others[0]}]')"
    yield Diagnosis(PART, "extras", says)


def _parts(requirement: str) -> tuple[str, str]:
    """Returns name and marker of a requirement: `faiss-cpu>=1.9; platform_system != "Linux"`."""
    found = _REQUIREMENT.match(requirement)
    assert found is not None
    return found["name"], found["marker"] or ""


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
