"""Where a result comes from: commit, versions, hardware."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path

from ssl_zoo._version import __version__

PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn")


def provenance() -> dict[str, str]:
    """Returns what a result depends on besides its settings."""
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
    """Returns the commit of the checkout that this package lies in, `unknown` outside of one."""
    package = Path(__file__).resolve().parent
    try:
        top = _git(package, "rev-parse", "--show-toplevel")
        if Path(top) != package.parent:  # some other repository around an installed package
            return "unknown"
        return _git(package, "describe", "--always", "--dirty", "--abbrev=12")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _version(*names: str) -> str:
    """Returns the version of the first of these packages that is installed."""
    for name in names:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "unknown"


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()
