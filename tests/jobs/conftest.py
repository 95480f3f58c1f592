"""A SLURM of recorded answers, and how a run is by them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ssl_zoo.jobs.status import RunStatus, status
from tests.jobs.fake_slurm import (
    FakeSlurm,
    make_run,
    write_log,
)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    return FakeSlurm(tmp_path, monkeypatch)


@pytest.fixture
def how(slurm: FakeSlurm, tmp_path: Path) -> Callable[..., RunStatus]:
    """Returns how the run of a job is after some events; `log` are lines that rank 0 printed."""

    def call(job: str | None, *events: dict[str, Any], log: tuple[str, ...] = ()) -> RunStatus:
        run = make_run(tmp_path / "runs" / "a", *events, job=job)
        if job and log:
            write_log(run, job, *log)
        return status(run)

    return call
