"""The soak itself: a few runs are as they should be, and what is wrong is seen."""

import shutil
import sys
from pathlib import Path

import pytest
import safetensors.torch

from ssl_zoo.runs import checkpoint
from tests.soak import checks
from tests.soak.plan import METHODS, STEPS, draw
from tests.subprocesses import run

ROOT = Path(__file__).resolve().parents[2]


def test_a_plan_depends_on_seed_and_number_alone() -> None:
    assert draw(0, 7, slurm=True) == draw(0, 7, slurm=True)
    assert draw(0, 7, slurm=True) != draw(1, 7, slurm=True)


def test_many_runs_are_of_every_kind_and_method() -> None:
    plans = [draw(0, index, slurm=True) for index in range(200)]
    assert {plan.kind for plan in plans} == {"forked", "process", "ranks", "slurm"}
    assert sum(plan.kind == "slurm" for plan in plans) == 51
    assert {plan.method for plan in plans} == set(METHODS)


def test_one_other_bit_is_seen(small_run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(small_run, tmp_path / "copy")
    name = f"step-{STEPS:08d}"
    for folder in (copy, shutil.copytree(small_run, tmp_path / "whole")):
        checkpoint.found(folder / "checkpoints")[0].rename(folder / "checkpoints" / name)
    assert checks.differences(copy, tmp_path / "whole") == []
    file = copy / "checkpoints" / name / checkpoint.MODEL
    weights = safetensors.torch.load_file(file)
    changed = next(key for key, value in weights.items() if value.is_floating_point())
    weights[changed].view(-1)[0] += 1e-6
    safetensors.torch.save_file(weights, file)
    (line,) = checks.differences(copy, tmp_path / "whole")
    assert line.startswith("1 of ")
    assert changed in line


def test_what_is_left_behind_is_seen(small_run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(small_run, tmp_path / "copy")
    assert checks.leftovers(copy) == []
    (copy / "config.yaml.tmp").touch()
    (copy / "checkpoints" / ".writing-step-00000003-0123abcd").mkdir()
    assert len(checks.leftovers(copy)) == 2


@pytest.mark.slow
def test_runs_that_are_stopped_and_moved_end_as_if_left_in_peace(tmp_path: Path) -> None:
    command = (
        sys.executable,
        "-m",
        "tests.soak",
        "--runs",
        "3",
        "--lanes",
        "1",
        "-o",
        str(tmp_path),
    )
    done = run(*command, cwd=tmp_path, path=ROOT)
    assert "3 of 3 as they should be" in done.stdout
