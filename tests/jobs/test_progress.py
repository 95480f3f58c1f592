"""Steps, pace and checkpoints, read from a run folder."""

import os
import time
from pathlib import Path

import pytest

from ssl_zoo.jobs.status import status
from tests.jobs.fake_slurm import FakeSlurm, make_run, started, write_checkpoint, write_metrics


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    return FakeSlurm(tmp_path, monkeypatch)


def test_progress_is_read_from_the_folder(slurm: FakeSlurm, tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", started("727"), job="727")
    write_checkpoint(run, 80)
    manifest = write_checkpoint(run, 120) / "manifest.json"
    os.utime(manifest, (time.time() - 300, time.time() - 300))
    (run / "checkpoints" / ".writing-step-00000160").mkdir()
    for step in (100, 150, 200):
        write_metrics(run, {"step": step, "seconds": step / 2, "train/images_per_second": step})
    write_metrics(run, {"step": 200, "seconds": 110.0, "knn/top1": 9.0})
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 250, "sec')  # being written
    found = status(run)
    assert (found.step, found.total_steps, found.checkpoint_step) == (200, 400, 120)
    assert found.checkpoint_age_s == pytest.approx(300, abs=5)
    assert found.images_per_second == 200
    assert found.eta_s == pytest.approx(200 / (100 / 60))  # 100 steps took 60 s, scores included


def test_only_what_runs_has_a_pace(slurm: FakeSlurm, tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", started("744"), job="744")
    for step in (100, 200):
        write_metrics(run, {"step": step, "seconds": step, "train/images_per_second": 5})
    found = status(run)
    assert (found.step, found.images_per_second, found.eta_s) == (200, None, None)


def test_long_metrics_are_read_from_their_end(slurm: FakeSlurm, tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", started("727", total_steps=20_000), job="727")
    write_metrics(run, *({"step": n, "seconds": n, "train/loss": 1.0} for n in range(10_000)))
    assert status(run).step == 9_999


def test_the_newest_checkpoint_has_the_largest_step(slurm: FakeSlurm, tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", started("744"), job="744")
    for step in (99_999_999, 100_000_000):
        write_checkpoint(run, step)
    assert status(run).checkpoint_step == 100_000_000
