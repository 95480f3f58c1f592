"""Runs commands and `ssl-zoo` as a user does: in a process of their own."""

import os
import subprocess
import sys
from pathlib import Path


def run(
    *command: str, cwd: Path, path: Path | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Returns the finished process.

    Args:
        cwd: where it runs; never the checkout, which Python would put on its path.
        path: folder that packages were installed into, searched before all others.
        check: whether a failure raises, with what the command printed.
    """
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(path or os.environ.get("PYTHONPATH", "")),
    }
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")
    return done


def ssl_zoo(
    *arguments: str, cwd: Path, path: Path | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Runs the command line."""
    return run(sys.executable, "-m", "ssl_zoo", *arguments, cwd=cwd, path=path, check=check)


def pip_install(*projects: Path, target: Path) -> None:
    """Installs projects or wheels into a folder, from what is on this machine alone."""
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    options += ["--disable-pip-version-check", "--target", str(target)]
    run(sys.executable, "-m", "pip", "install", *options, *map(str, projects), cwd=target.parent)
