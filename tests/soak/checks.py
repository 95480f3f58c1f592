"""What must hold at the end of a run: equal weights, nothing left behind, the right state."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from ssl_zoo.jobs.status import Phase, status
from ssl_zoo.runs import checkpoint
from ssl_zoo.runs.folder import RunFolder
from tests.soak.plan import STEPS

MARK = "SOAK_RUN"
"""Environment variable that all processes of a run inherit."""
TIMINGS = (
    "seconds",
    *(f"train/{name}" for name in ("images_per_second", "data_share", "saving_share", "host_gb")),
)
USUAL = {
    *("config.yaml", "checkpoints", "complete.json", "history.jsonl", "metrics.jsonl"),
    *("owner.json", ".lock", ".submitting", "tensorboard"),
    "metrics.damaged",  # half a line that was left on purpose
    *("submit", "code"),
}
"""What a run folder may hold at the end."""


def problems_at_the_end(folder: Path, whole: Path) -> list[str]:
    """Returns what is wrong with a complete run.

    Args:
        whole: the run with the same settings that nothing befell.
    """
    found = []
    now = status(folder)
    if (now.phase, now.state, now.step) != (Phase.COMPLETE, "COMPLETE", STEPS):
        found.append(f"told {now.state} ({now.reason}) at step {now.step}")
    found += differences(folder, whole)
    return found + leftovers(folder)


def differences(folder: Path, whole: Path) -> list[str]:
    """Returns in what a run's end differs from another's: tensors, states, metrics."""
    name = f"step-{STEPS:08d}"
    ours, theirs = (each / "checkpoints" / name for each in (folder, whole))
    if not (ours / checkpoint.MANIFEST).is_file():
        return [f"there is no checkpoint {name}"]
    found = []
    if sha256(ours / checkpoint.MODEL) != sha256(theirs / checkpoint.MODEL):
        weights, others = (
            safetensors.torch.load_file(each / checkpoint.MODEL) for each in (ours, theirs)
        )
        unequal = [key for key in others if not _equal(weights.get(key), others[key])]
        found.append(f"{len(unequal)} of {len(others)} tensors of the model differ: {unequal[:3]}")
    states = [file.name for file in theirs.glob("*.pt")]
    for state in states:
        mine, other = (
            torch.load(each / state, map_location="cpu", weights_only=True)
            for each in (ours, theirs)
        )
        found += [f"{state}: {path}" for path in _unequal(mine, other)][:3]
    if metrics(folder) != metrics(whole):
        found.append("metrics.jsonl differs")
    return found


def sha256(file: Path) -> str:
    """Returns the digest of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _equal(one: Any, other: Any) -> bool:
    return isinstance(one, torch.Tensor) and torch.equal(one, other)


def _unequal(one: Any, other: Any, path: str = "") -> list[str]:
    """Returns the places at which two nested states differ, without times."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = dict.fromkeys([*one, *other])
        return [
            line
            for key in keys
            if key != "seconds"
            for line in _unequal(one.get(key), other.get(key), f"{path}.{key}")
        ]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if len(one) != len(other):
            return [path]
        pairs = enumerate(zip(one, other, strict=True))
        return [line for n, (a, b) in pairs for line in _unequal(a, b, f"{path}[{n}]")]
    if isinstance(one, torch.Tensor):
        return [] if _equal(one, other) else [path]
    return [] if type(one) is type(other) and bool(one == other) else [path]


def metrics(folder: Path) -> list[dict[str, Any]]:
    """Returns the metrics of a run without times."""
    lines = RunFolder(folder).metrics_file.read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMINGS} for line in lines]


def leftovers(folder: Path) -> list[str]:
    """Returns files of a complete run that should not be there."""
    found = [f"left over: {each.name}" for each in folder.iterdir() if each.name not in USUAL]
    checkpoints = sorted(each.name for each in (folder / "checkpoints").iterdir())
    if any(not name.startswith("step-") for name in checkpoints) or len(checkpoints) > 2:
        found.append(f"checkpoints/ holds {checkpoints}")
    if not any((folder / "tensorboard").glob("*")):
        found.append("tensorboard/ is empty")
    return found


def outside(place: Path, expected: set[str]) -> list[str]:
    """Returns what is in the place of a run besides its folders, such as temporary files."""
    found = [f"written outside: {each.name}" for each in place.iterdir()]
    return [line for line in found if line.removeprefix("written outside: ") not in expected]


def processes(mark: str, groups: set[int]) -> list[str]:
    """Returns the processes that carry the mark of a run or belong to a group of its processes."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        try:
            has_mark = wanted in (process / "environ").read_bytes().split(b"\0")
            state, _, group = (process / "stat").read_text().rpartition(")")[2].split()[:3]
            if state != "Z" and (has_mark or int(group) in groups):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                found.append(f"{process.name}: {command[:120]}")
        except OSError:
            continue
    return found


def tree(folder: Path) -> str:
    """Returns a digest of all files of a folder, names and contents."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            total.update(f"{path.relative_to(folder)}\0{sha256(path)}\n".encode())
    return total.hexdigest()
