"""What bounds a run: three cases that are set up on purpose, and the advice for each."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ssl_zoo.augmentations import opencv
from ssl_zoo.cli.main import cli
from ssl_zoo.data.decoding import read_image
from ssl_zoo.errors import UserError
from ssl_zoo.planning import bench as module
from ssl_zoo.planning.bench import Bench, bench
from ssl_zoo.planning.machine import Machine
from ssl_zoo.runs.config import RunConfig, run_config
from tests.data import folders

LARGE = Machine(cores=16, memory_gb=64, gpu="H200", has_bf16=True)


def of_files(tmp_path: Path, *overrides: str) -> RunConfig:
    data = folders.two_classes(tmp_path / "photos", 8)
    small = ("backbone=tiny_resnet", "augmentation.crops.0.size=16", "global_batch_size=8")
    return run_config("simclr@photos", overrides=(f"data={data}", *small, *overrides))


def test_a_slow_disk_bounds_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slowly(*arguments: Any, **settings: Any) -> Any:
        time.sleep(0.05)
        return read_image(*arguments, **settings)

    monkeypatch.setattr("ssl_zoo.data.image_files.read_image", slowly)
    monkeypatch.setattr(module, "this_machine", lambda: LARGE)
    found = bench(of_files(tmp_path, "num_workers=0", "data.decoded_mb=0"), steps=2)
    assert found.bound == "loading"
    assert found.loading > 8 * 0.05
    assert found.training > found.computing
    assert "num_workers=" in found.advice[0]


def test_a_large_network_bounds_a_run() -> None:
    config = run_config("simclr@digits", overrides=["backbone=resnet18", "global_batch_size=64"])
    found = bench(config, steps=2)
    assert found.bound == "computing"
    assert found.computing > found.loading
    assert not any("num_workers" in line for line in found.advice)


def test_a_run_of_a_few_steps_is_timed_as_far_as_it_goes(tmp_path: Path) -> None:
    found = bench(of_files(tmp_path, "epochs=1", "schedule.warmup=0 epochs"), steps=20)
    assert found.training > 0


def test_a_run_is_left_without_a_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bench(of_files(tmp_path), steps=2)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def advice(bound: str, *, ratio: float, machine: Machine = LARGE, **settings: Any) -> list[str]:
    config = run_config("simclr@photos", overrides=[f"{key}={settings[key]}" for key in settings])
    views_by = "OpenCV" if opencv.installed() else "torch"
    return [*module._advice(config, bound, machine, ratio=ratio, views_by=views_by)]


def test_one_loader_process_for_a_fast_network_is_told_how_many_would_keep_up() -> None:
    assert advice("loading", ratio=4.5, num_workers=1) == ["num_workers=5"]


def test_more_processes_than_cores_are_not_advised() -> None:
    few = Machine(cores=4, memory_gb=8, gpu="T4")
    first, second = advice("loading", ratio=4.5, num_workers=2, machine=few)
    assert first == "num_workers=4"
    assert second.startswith("9 loader processes would keep up, but this machine has 4 cores")


def test_a_processor_that_knows_bf16_is_told_to_use_it() -> None:
    cpu = Machine(cores=2, memory_gb=8, cpu_has_bf16=True)
    assert advice("computing", ratio=0.1, num_workers=1, machine=cpu)[0].startswith(
        "precision=bf16"
    )
    assert not any(
        "bf16" in line
        for line in advice("computing", ratio=0.1, num_workers=1, machine=cpu, precision="bf16")
    )


def test_views_without_opencv_are_named_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opencv, "installed", lambda: False)
    assert "ssl-zoo[fast]" in advice("loading", ratio=2.0, num_workers=1)[0]


def test_a_method_that_does_not_train_has_nothing_to_time() -> None:
    with pytest.raises(UserError, match="'raw_pixels' does not train"):
        bench(run_config("raw_pixels"))


def test_the_command_prints_a_table_or_json(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Bench(
        "swav", 32, 6, 1, "on the CPU", 0.5, 0.1, 0.2, 0.21, 1.5, 0.0, "computing", ("x",)
    )
    monkeypatch.setattr(module, "bench", lambda config, steps: found)
    table = CliRunner().invoke(cli, ["bench", "swav"]).stdout.splitlines()
    assert table[1].split() == ["loader", "alone", "0.1", "320", "1,920"]
    assert table[-2:] == ["bound by computing", "  x"]
    assert json.loads(CliRunner().invoke(cli, ["bench", "swav", "--json"]).stdout)["views"] == 6
