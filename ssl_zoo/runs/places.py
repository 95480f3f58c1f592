"""Locations of run folders: defaults, and which files are in one."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ssl_zoo.errors import UserError

if TYPE_CHECKING:
    from ssl_zoo.runs.config import RunConfig


LOCK = ".lock"
"""File in a run folder that is locked by the process that trains there."""
SUBMITTING = ".submitting"
"""File in a run folder that is locked by a process that submits it."""


def default_folder(config: "RunConfig") -> Path:
    """Returns `runs/METHOD-DATA-DIGEST`, which is equal for equal configs and different for others."""
    name = f"{config.method.name}-{config.data.name}-{config.digest()}"
    return runs_folder() / name


def runs_folder() -> Path:
    """Returns the default folder of runs: `runs`, or the value of SSL_ZOO_RUNS."""
    return Path(os.environ.get("SSL_ZOO_RUNS", "runs"))


def point_folder(parent: Path, config: "RunConfig") -> Path:
    """Returns the folder of one of several runs that differ in method and seed."""
    return parent / f"{config.method.name}-seed{config.seed}-{config.digest()}"


def run_around(path: Path) -> Path | None:
    """Returns the run folder that a path is in, or is; None outside runs."""
    place = path.resolve()
    for folder in (place, *place.parents):
        begun = ("history.jsonl", "owner.json", "complete.json")
        if (folder / "config.yaml").is_file() and any((folder / name).exists() for name in begun):
            return folder
    return None


def check_encoding(output: Path) -> None:
    """Checks that an output has a name that all libraries can write and read.

    Raises:
        UserError: its path is not UTF-8.
    """
    try:
        str(output).encode()
    except UnicodeEncodeError:
        raise UserError(f"'{output}' is not UTF-8; choose another --output") from None


def check_place(output: Path) -> None:
    """Checks that an output other than a run can be written to a path.

    Raises:
        UserError: its path is not UTF-8, or it is in a run folder, which only training changes.
    """
    check_encoding(output)
    run = run_around(output)
    if run is not None:
        raise UserError(
            f"'{output}' is in the run folder '{run}', which only training changes; choose another "
            "--output"
        )
