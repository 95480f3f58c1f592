"""Provenance of results: commit, versions and hardware."""

import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path

from ssl_zoo._version import __version__

PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn")
SNAPSHOT = "snapshot.json"
"""File next to a copy of this package that records its origin; see `ssl_zoo.launch.snapshot`."""


def provenance() -> dict[str, str]:
    """Returns everything a result depends on other than its settings."""
    import torch

    if torch.cuda.is_available():
        hardware = torch.cuda.get_device_name()
    else:
        hardware = f"{torch.get_num_threads()} threads of a CPU ({platform.machine()})"
    packages = {name: _version(name) for name in PACKAGES}
    return {
        "ssl_zoo": __version__,
        "commit": commit(),
        "python": platform.python_version(),
        **packages,
        "faiss": _version("faiss-gpu", "faiss-cpu"),
        "hardware": hardware,
    }


def commit() -> str:
    """Returns the commit of the running code; `unknown` outside a checkout and its copies."""
    package = Path(__file__).resolve().parent.parent
    try:
        return str(json.loads((package.parent / SNAPSHOT).read_bytes())["commit"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not a copy
    top = checkout()
    if top is None:
        return "unknown"
    try:
        return git(top, "describe", "--always", "--dirty", "--abbrev=12").decode().strip()
    except subprocess.CalledProcessError:  # no commits yet
        return "unknown"


def checkout() -> Path | None:
    """Returns the root of the git checkout that contains this package; None outside a checkout."""
    package = Path(__file__).resolve().parent.parent
    try:
        top = Path(os.fsdecode(git(package, "rev-parse", "--show-toplevel")).rstrip("\n"))
    except (OSError, subprocess.CalledProcessError):
        return None
    # Otherwise it is another repository around an installed package.
    return top if top == package.parent else None


def _version(*names: str) -> str:
    """Returns the version of the first of these packages that is installed."""
    for name in names:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "unknown"


def git(folder: Path, *arguments: str) -> bytes:
    """Returns the output of a git command.

    Raises:
        OSError: git is not installed.
        subprocess.CalledProcessError: the command failed.
    """
    command = ["git", "--no-optional-locks", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, check=True).stdout
