"""Training: exact resume, refusals, interruptions, and what is left on disk."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from ssl_zoo.config import dump_yaml
from ssl_zoo.errors import UserError
from ssl_zoo.methods.swav import SwAV
from ssl_zoo.runs import checkpoint, checkpoint_writing
from ssl_zoo.runs.config import RunConfig
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.schedule import Progress
from ssl_zoo.training.outcome import Interrupted
from ssl_zoo.training.train import train
from tests.small import SHORT, fast_config
from tests.waiting import until

TIMINGS = (
    "seconds",
    *(f"train/{name}" for name in ("images_per_second", "data_share", "saving_share", "host_gb")),
)


def queue_config(*overrides: str) -> RunConfig:
    """SwAV with a queue that fills and is used, a checkpoint every few steps, 3 epochs of 44 steps."""
    return fast_config(
        "swav",
        "epochs=3",
        "method.queue_length=64",
        "method.queue_start=10 steps",
        "method.freeze_prototypes=20 steps",
        "checkpoint.every=7 steps",
        "evaluation.every=1 epoch",
        "evaluation.evaluators=[knn]",
        *overrides,
    )


def outcome(folder: Path) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
    """Returns the final weights, and the metrics without what depends on the clock."""
    path = checkpoint.found(folder / "checkpoints")[0]
    metrics = [
        {key: value for key, value in record.items() if key not in TIMINGS}
        for record in RunFolder(folder).metrics()
    ]
    return safetensors.torch.load_file(path / checkpoint.MODEL), metrics


def assert_same_outcome(one: Path, other: Path) -> None:
    weights, metrics = outcome(one)
    other_weights, other_metrics = outcome(other)
    assert [key for key in weights if not torch.equal(weights[key], other_weights[key])] == []
    assert metrics == other_metrics


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(queue_config(), tmp_path_factory.mktemp("runs") / "whole", bar=False)


def test_a_finished_run_reports_that_and_is_not_trained_again(uninterrupted: Path) -> None:
    folder = RunFolder(uninterrupted)
    assert folder.is_complete
    before = folder.metrics_file.read_bytes()
    train(queue_config(), uninterrupted, bar=False)
    assert folder.metrics_file.read_bytes() == before


def test_metrics_hold_loss_diagnostics_and_scores(uninterrupted: Path) -> None:
    keys = {key for record in RunFolder(uninterrupted).metrics() for key in record}
    assert {
        "train/loss",
        "train/loss_over_ln_k",
        "train/feature_std",
        "train/effective_rank",
        "train/active_prototypes",
        "train/code_entropy",
        "knn/top1@k=20",
    } <= keys


def test_stopped_at_any_step_and_started_again_it_ends_the_same(
    uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stops = iter([5, 30, 61])
    after_step = SwAV.after_step
    pending = [next(stops)]

    def stop_here(self: SwAV, progress: Progress) -> None:
        after_step(self, progress)
        if progress.step == pending[0]:
            pending[0] = next(stops, -1)
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(SwAV, "after_step", stop_here)
    steps = []
    while True:
        try:
            train(queue_config(), tmp_path / "run", bar=False)
            break
        except Interrupted as stop:
            steps.append(stop.step)
    assert steps == [6, 31, 62]
    assert_same_outcome(uninterrupted, tmp_path / "run")


@pytest.mark.slow
def test_killed_without_warning_and_started_again_it_ends_the_same(
    uninterrupted: Path, tmp_path: Path
) -> None:
    (tmp_path / "run.yaml").write_text(dump_yaml(queue_config()))
    command = [sys.executable, "-m", "ssl_zoo", "train", "--config", "run.yaml", "-o", "run"]
    seen = -1
    for _ in range(2):
        process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
        until(lambda: _newest_step(tmp_path / "run") > seen, "a checkpoint further on")  # noqa: B023
        seen = _newest_step(tmp_path / "run")
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert 0 < seen < 132
    subprocess.run(command, cwd=tmp_path, check=True, stderr=subprocess.DEVNULL)
    assert_same_outcome(uninterrupted, tmp_path / "run")


def _kill_all_in(folder: Path) -> None:
    """Kills every process whose working directory this is."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if (entry / "cwd").readlink() == folder:
                    os.kill(int(entry.name), signal.SIGKILL)


def _newest_step(folder: Path) -> int:
    found = checkpoint.found(folder / "checkpoints")
    return int(found[0].name.removeprefix("step-")) if found else -1


@pytest.mark.distributed
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the ranks to kill in /proc")
def test_two_killed_ranks_end_the_same(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(dump_yaml(queue_config("epochs=2")))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    arguments = ["-m", "ssl_zoo", "train", "--config", "run.yaml", "-o"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(name: str, port: int) -> subprocess.Popen[bytes]:
        command = [*torchrun, "--master-port", str(port), *arguments, name]
        return subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment,
            stderr=subprocess.DEVNULL,
        )

    port = 20000 + os.getpid() % 20000
    assert start("whole", port).wait(300) == 0
    process = start("run", port + 1)
    until(lambda: _newest_step(tmp_path / "run") >= 14, "step 14 is saved")
    _kill_all_in(tmp_path)  # torchrun puts each rank into a session of its own
    process.wait()
    assert not RunFolder(tmp_path / "run").is_complete
    assert start("run", port + 2).wait(300) == 0
    assert_same_outcome(tmp_path / "whole", tmp_path / "run")


def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    uninterrupted: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    (run / "complete.json").unlink()
    newest = checkpoint.found(run / "checkpoints")[0]
    model = newest / checkpoint.MODEL
    model.write_bytes(model.read_bytes()[:-100])
    train(queue_config(), run, bar=False)
    assert "model.safetensors is cut off or changed" in caplog.text
    assert_same_outcome(uninterrupted, run)


def test_only_damaged_checkpoints_are_an_error(uninterrupted: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    (run / "complete.json").unlink()
    for path in checkpoint.found(run / "checkpoints"):
        (path / checkpoint.OPTIMIZER).unlink()
    with pytest.raises(UserError, match="all 2 checkpoints in .* are damaged"):
        train(queue_config(), run, bar=False)


def test_a_folder_of_another_config_is_refused(uninterrupted: Path) -> None:
    with pytest.raises(UserError, match=r"made by another config \(seed: 0 there, 1 now\)"):
        train(queue_config("seed=1"), uninterrupted, bar=False)


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UserError, match="contains files .*--output"):
        train(queue_config(), tmp_path, bar=False)
    assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == ["thesis.tex"]


def test_two_processes_cannot_train_in_one_folder(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with folder.lock(), pytest.raises(UserError, match="another process is training"):
        train(queue_config(), folder.path, bar=False)


def test_a_full_disk_keeps_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = checkpoint_writing._write_model

    def fill_up(path: Path, model: torch.nn.Module) -> str:
        if "00000008" in path.parent.name:
            raise OSError(28, "No space left on device")
        return write(path, model)

    monkeypatch.setattr(checkpoint_writing, "_write_model", fill_up)
    config = fast_config("simclr", "epochs=1", "checkpoint.every=4 steps")
    with pytest.raises(
        UserError, match="step 8 cannot be written .*: no space left .*'step-00000004'"
    ):
        train(config, tmp_path / "run", bar=False)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == [
        "step-00000004"
    ]


def test_a_seed_decides_also_what_foreign_code_draws(small_run: Path, tmp_path: Path) -> None:
    """Plug-ins may use the generators of Python and NumPy, which nothing here does."""
    random.seed(7)
    np.random.seed(7)  # noqa: NPY002
    again = train(fast_config("simclr", *SHORT), tmp_path / "run", bar=False)
    states = [
        torch.load(checkpoint.found(run / "checkpoints")[0] / "rank-0.pt", weights_only=True)[
            "rng"
        ]
        for run in (small_run, again)
    ]
    assert states[0]["python"] == states[1]["python"]
    assert torch.equal(states[0]["numpy"], states[1]["numpy"])


def test_checkpoints_hold_no_pickled_code(uninterrupted: Path) -> None:
    path = checkpoint.found(uninterrupted / "checkpoints")[0]
    for file in path.glob("*.pt"):
        torch.load(file, weights_only=True)
    assert json.loads((path / "manifest.json").read_text())["step"] == 132


def test_the_weights_know_whose_folder_it_is(small_run: Path, tmp_path: Path) -> None:
    """Whatever config.yaml says by now."""
    folder = RunFolder(shutil.copytree(small_run, tmp_path / "run"))
    other = folder.config().model_copy(update={"seed": 9})
    folder.complete_file.unlink()
    folder.create(other)
    with pytest.raises(UserError, match="seed: 0 there, 9 now"):
        train(other, folder.path, bar=False)


def test_a_copied_checkpoint_is_not_taken_for_one(small_run: Path, tmp_path: Path) -> None:
    folder = RunFolder(shutil.copytree(small_run, tmp_path / "run"))
    newest = checkpoint.found(folder.checkpoints)[0]
    shutil.copytree(newest, newest.with_name(f"{newest.name}-old"))
    assert checkpoint.found(folder.checkpoints)[0] == newest


def test_a_stop_during_the_step_before_an_evaluation_keeps_its_scores(
    uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after_step = SwAV.after_step

    def stop_here(self: SwAV, progress: Progress) -> None:
        after_step(self, progress)
        if progress.step == 43:  # the last of the first epoch, after which scores are due
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(SwAV, "after_step", stop_here)
    with pytest.raises(Interrupted):
        train(queue_config(), tmp_path / "run", bar=False)
    monkeypatch.undo()
    train(queue_config(), tmp_path / "run", bar=False)
    assert_same_outcome(uninterrupted, tmp_path / "run")


def test_a_config_that_cannot_run_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="above the 1438 training images"):
        train(fast_config("swav", "method.n_prototypes=[5000]"), tmp_path / "run", bar=False)
    assert not (tmp_path / "run").exists()


def test_settings_that_do_not_change_weights_may_change_on_the_way(
    uninterrupted: Path, tmp_path: Path
) -> None:
    assert queue_config("log_every=1").digest() == queue_config().digest()
    train(queue_config("num_workers=2", "checkpoint.keep=5"), uninterrupted, bar=False)


def test_scores_before_and_during_training_change_no_weights(tmp_path: Path) -> None:
    runs = [
        train(
            fast_config("simclr", *SHORT, f"evaluation.every={every}"), tmp_path / name, bar=False
        )
        for every, name in (("2 steps", "scored"), ("0", "plain"))
    ]
    one, other = (outcome(run)[0] for run in runs)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_untrained_network_is_scored_once(uninterrupted: Path) -> None:
    steps = [
        line["step"] for line in RunFolder(uninterrupted).metrics() if "knn/top1@k=20" in line
    ]
    assert steps == [0, 44, 88, 132]
