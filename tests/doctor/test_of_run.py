"""Faults planted in real runs, each of which must be found and named with its remedy."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ssl_zoo.data import cores, workers
from ssl_zoo.doctor import of_run
from ssl_zoo.doctor.diagnosis import Diagnosis
from ssl_zoo.doctor.of_run import run_findings
from ssl_zoo.runs import checkpoint
from ssl_zoo.runs.config import RunConfig
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.training.outcome import NonFiniteLoss
from ssl_zoo.training.state import TrainingState
from ssl_zoo.training.train import train
from tests.small import fast_config

SHORT = ("epochs=2", "checkpoint.every=2 epochs")


def faults(folder: Path) -> dict[str, Diagnosis]:
    return {one.check: one for one in run_findings(folder) if one.is_fault}


def change_metrics(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes the second half of the logged steps."""
    file = run / "metrics.jsonl"
    records = [json.loads(line) for line in file.read_text().splitlines()]
    for record in records[len(records) // 2 :]:
        change(record)
    file.write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run in which nothing is wrong."""
    config = fast_config("simclr", *SHORT, "optimizer.lr=0.3")
    return train(config, tmp_path_factory.mktemp("runs") / "simclr", bar=False)


@pytest.fixture(scope="module")
def clustered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run with prototypes and a queue."""
    queue = ("method.queue_length=320", "method.queue_start=0 steps")
    config = fast_config("swav", *SHORT, *queue)
    return train(config, tmp_path_factory.mktemp("runs") / "swav", bar=False)


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture
def swav(clustered: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clustered, tmp_path / "run"))


def test_nothing_is_wrong_with_a_run_that_learns(run: Path) -> None:
    assert faults(run) == {}
    said = {one.check: one.says for one in run_findings(run)}
    assert said["state"] == "COMPLETE at step 88 of 88"
    assert said["training"].startswith("no alarm in 18 logged steps; loss ")


def test_a_loss_that_stays_at_chance_is_found(tmp_path: Path) -> None:
    config = fast_config("simclr", *SHORT, "optimizer.lr=1e-9")
    found = faults(train(config, tmp_path / "run", bar=False))["loss_over_chance"]
    assert "the loss is at chance level (1): lower optimizer.lr" in found.remedy
    assert "since step 65" in found.says


def test_dead_prototypes_are_found(swav: Path) -> None:
    change_metrics(swav, lambda record: record.update({"train/active_prototypes": 0.04}))
    found = faults(swav)["active_prototypes"]
    assert found.says.startswith("0.04 since step ")
    assert "use fewer prototypes" in found.remedy


def test_a_collapse_and_the_fall_of_the_rank_before_it_are_found(tmp_path: Path) -> None:
    strong = ("epochs=4", "optimizer.weight_decay=0.5", "optimizer.lr=0.3")
    run = train(fast_config("simclr", *strong), tmp_path / "run", bar=False)
    remedies = [one.remedy for one in run_findings(run) if one.check == "effective_rank"]
    assert ["few" in one for one in remedies] == [False, True]
    assert "prefer an earlier checkpoint" in remedies[1]


def test_a_stale_queue_is_found(swav: Path) -> None:
    assert "train/queue_age_share" in RunFolder(swav).metrics()[-1]
    change_metrics(swav, lambda record: record.update({"train/queue_age_share": 0.3}))
    assert "shorter queue (method.queue_length)" in faults(swav)["queue_age_share"].remedy


def test_steps_skipped_in_half_precision_are_found(run: Path) -> None:
    change_metrics(run, lambda record: record.update({"train/loss_scale": 2.0**-8}))
    assert "use precision=bf16 or fp32" in faults(run)["loss_scale"].remedy


def test_a_run_that_waits_for_images_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ssl_zoo.augmentations.multicrop import MultiCrop

    apply = MultiCrop.apply

    def slow(self: Any, *arguments: Any) -> Any:
        time.sleep(0.1)
        return apply(self, *arguments)

    monkeypatch.setattr(MultiCrop, "apply", slow)
    config = fast_config("simclr", "epochs=1", "global_batch_size=256", "log_every=1")
    found = faults(train(config, tmp_path / "run", bar=False))["data_share"]
    assert "fewer or smaller views" in found.remedy


def test_slow_checkpoints_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = TrainingState.save

    def slow(self: TrainingState, *, wait: bool = True) -> None:
        time.sleep(0.1)
        save(self)

    monkeypatch.setattr(TrainingState, "save", slow)
    config = fast_config("simclr", "epochs=1", "checkpoint.every=2 steps", "log_every=2")
    found = faults(train(config, tmp_path / "run", bar=False))["saving_share"]
    assert "raise checkpoint.every" in found.remedy


def test_a_score_below_that_before_training_is_found(tmp_path: Path) -> None:
    config = fast_config("simclr", *SHORT, "evaluation.every=1 epochs")
    run = train(config, tmp_path / "run", bar=False)
    name = "knn/top1@k=20"
    change_metrics(run, lambda record: record.update({name: 11.0} if name in record else {}))
    found = faults(run)[name]
    before = RunFolder(run).metrics()[0][name]
    assert found.says == f"11.0, before training {before:.1f}"
    assert "weaker color jitter" in found.remedy


def test_a_loss_that_is_not_finite_is_found(tmp_path: Path) -> None:
    config = fast_config("simclr", *SHORT, "optimizer.lr=1000", "clip_norm=null")
    config = config.model_copy(update={"precision": "fp16"})
    with pytest.raises(NonFiniteLoss):
        train(config, tmp_path / "run", bar=False)
    found = faults(tmp_path / "run")["state"]
    assert "loss or weights are not finite at step" in found.says
    assert "lower optimizer.lr" in found.says
    assert found.remedy == "then start a new run with another --output"


def test_a_run_whose_process_is_gone_is_found(run: Path) -> None:
    (run / "complete.json").unlink()
    history = run / "history.jsonl"
    lines = [line for line in history.read_text().splitlines() if '"complete"' not in line]
    history.write_text("\n".join(lines) + "\n")
    found = faults(run)["state"]
    assert found.says.startswith("LOST at step 88 of 88: ")
    assert found.remedy == f"resume it with: ssl-zoo train -o {run}"


def test_a_damaged_checkpoint_is_found(run: Path) -> None:
    newest, *older = checkpoint.found(run / "checkpoints")
    (newest / checkpoint.MODEL).write_bytes(b"")
    found = faults(run)["checkpoints"]
    assert found.says.startswith(f"{'1 of' if older else 'all'} {len(older) + 1}")
    assert "damaged" in found.says


def test_damaged_metrics_are_found(run: Path) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "seco\n')
    assert "1 of 19 lines are damaged" in faults(run)["metrics"].says


def of_files(*overrides: str) -> RunConfig:
    data = ("data={name: image_folder, root: photos}", "augmentation.crops.0.size=16")
    return fast_config("simclr", *data, "global_batch_size=32", *overrides)


def test_the_machine_may_grant_fewer_loaders_than_a_run_asks_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    monkeypatch.setattr(cores, "_quota", lambda: None)
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    (found,) = of_run._loaders(of_files("num_workers=10"))
    assert found.says == "3 with num_workers=10 on 3 cores (affinity)"
    assert not found.remedy


def test_batches_that_do_not_fit_into_shared_memory_are_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, "shared_memory", lambda: 100_000.0)
    (found,) = of_run._loaders(of_files("num_workers=1"))
    assert (
        "need 147 kB of shared memory, but 100 kB" in found.says
    )  # 96 images, 2 views of 16x16x3
    assert "--shm-size" in found.remedy
    monkeypatch.setattr(workers, "shared_memory", lambda: 1000.0)
    (found,) = of_run._loaders(of_files("num_workers=1"))
    assert "set num_workers=0" in found.says
    assert found.remedy


def test_images_in_memory_need_no_loaders(run: Path) -> None:
    (found,) = of_run._loaders(fast_config("simclr", "num_workers=4"))
    assert found.says == "none, images are read in the main process"


def test_a_checkpoint_without_its_optimizer_is_damaged(run: Path) -> None:
    for path in checkpoint.found(run / "checkpoints"):
        (path / checkpoint.OPTIMIZER).unlink()
    assert "damaged" in faults(run)["checkpoints"].says


def test_a_checkpoint_of_another_version_is_not_called_damaged(run: Path) -> None:
    for path in checkpoint.found(run / "checkpoints"):
        manifest = json.loads((path / checkpoint.MANIFEST).read_text())
        (path / checkpoint.MANIFEST).write_text(json.dumps(manifest | {"format": 99}))
    found = faults(run)["checkpoints"]
    assert "damaged" not in found.says
    assert "99" in found.says
    assert "remove" not in found.remedy


def test_an_alarm_that_has_stopped_is_no_fault(swav: Path) -> None:
    change_metrics(swav, lambda record: record.update({"train/active_prototypes": 0.04}))
    lines = (swav / "metrics.jsonl").read_text().splitlines()
    last = json.loads(lines[-1]) | {"train/active_prototypes": 0.9}
    (swav / "metrics.jsonl").write_text("\n".join([*lines[:-1], json.dumps(last)]) + "\n")
    assert "active_prototypes" not in faults(swav)
