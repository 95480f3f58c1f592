"""Default locations of run folders."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ssl_zoo.runs.config import RunConfig


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
