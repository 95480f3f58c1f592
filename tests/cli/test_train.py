"""`ssl-zoo train` and `ssl-zoo config`: where runs are, and how they go on."""

import shutil
from pathlib import Path

import pytest
import yaml

from ssl_zoo.runs.config import run_config
from tests.cli.commands import Run
from tests.small import FAST, SHORT

SMALL = (*FAST, *SHORT)


def test_the_resolved_config_reads_back(run: Run, tmp_path: Path) -> None:
    printed = run("config", "swav@cifar10", "seed=3").out
    (tmp_path / "run.yaml").write_text(printed)
    assert run("config", "--config", "run.yaml").out == printed
    assert yaml.safe_load(run("config", "--config", "run.yaml", "seed=4").out)["seed"] == 4


def test_a_start_that_failed_leaves_nothing_behind(run: Run, tmp_path: Path) -> None:
    assert (
        run("train", "simclr", "data=image_folder", "data.root=nowhere", "-o", "run").status == 2
    )
    assert not (tmp_path / "run").exists()


def test_training_prints_the_run_folder_and_stops_there_when_complete(
    run: Run, small_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(small_run, tmp_path / "run")
    outcome = run("train", "simclr", *SMALL, "-o", "run")
    assert (outcome.status, outcome.out) == (0, "run\n")


def test_a_run_folder_is_enough_to_resume(run: Run, small_run: Path, tmp_path: Path) -> None:
    shutil.copytree(small_run, tmp_path / "run")
    (tmp_path / "run" / "complete.json").unlink()
    assert run("train", "-o", "run").status == 0
    assert (tmp_path / "run" / "complete.json").is_file()
    assert "seed: 0 there, 9 now" in run("train", "seed=9", "-o", "run").complaint
    assert "name a method" in run("train", "-o", "elsewhere").complaint


def test_the_default_folder_is_named_after_method_data_and_config(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = run_config("simclr", overrides=SMALL)
    outcome = run("train", "simclr", *SMALL)
    assert outcome.out == f"runs/simclr-digits_affine-{config.digest()}\n"


def test_a_run_folder_of_another_config_is_refused(run: Run, small_run: Path) -> None:
    outcome = run("train", "simclr", *SMALL, "seed=9", "-o", small_run)
    assert "was made by another config (seed: 0 there, 9 now)" in outcome.complaint
