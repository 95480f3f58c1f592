"""Checkpoints written in the background: steps go on, and nothing is lost or published too early."""

import copy
import os
import shutil
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from ssl_zoo.errors import UserError
from ssl_zoo.methods.simclr.method import SimCLR
from ssl_zoo.runs import checkpoint, checkpoint_writing
from ssl_zoo.runs.config import CheckpointConfig
from ssl_zoo.testing.examples import fast_config
from ssl_zoo.training.outcome import Interrupted
from ssl_zoo.training.state import TrainingState
from ssl_zoo.training.train import train
from tests.distributed import run_on_ranks
from tests.small import SHORT

RUN = ("epochs=1", "global_batch_size=128", "checkpoint.every=4 steps")
WAIT_S = 120
"""Only a test that fails waits so long."""


class SlowDisk:
    """Holds up the model of step 4 until it is told to go on, and notes what happens meanwhile."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[str] = []
        self.go_on = threading.Event()
        self._write, self._after_step = checkpoint_writing._write_model, SimCLR.after_step
        self.at_step: dict[int, Any] = {}
        monkeypatch.setattr(checkpoint_writing, "_write_model", self.write)
        disk = self

        def after_step(method: SimCLR, progress: Any) -> None:
            disk._after_step(method, progress)
            disk.events.append(f"step {progress.step + 1}")
            disk.at_step.get(progress.step + 1, lambda: None)()

        monkeypatch.setattr(SimCLR, "after_step", after_step)

    def write(self, path: Path, model: Any) -> str:
        if "00000004" not in path.parent.name:
            return self._write(path, model)
        self.events.append("write 4")
        assert self.go_on.wait(WAIT_S), "steps wait for the disk"
        digest = self._write(path, model)
        self.events.append("written 4")
        return digest


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> SlowDisk:
    return SlowDisk(monkeypatch)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load_state(checkpoint.found(run / "checkpoints")[0]).model


def test_steps_go_on_while_a_checkpoint_is_written(
    disk: SlowDisk, small_run: Path, tmp_path: Path
) -> None:
    found: list[list[Path]] = []

    def look() -> None:
        found.append(checkpoint.found(tmp_path / "run" / "checkpoints"))
        disk.go_on.set()

    disk.at_step[7] = look
    train(fast_config("simclr", *RUN), tmp_path / "run", bar=False)
    between = disk.events[disk.events.index("write 4") : disk.events.index("written 4")]
    assert {"step 5", "step 6", "step 7"} <= {*between}
    assert found == [[]]  # nothing is published before it is whole
    kept = {path.name for path in checkpoint.found(tmp_path / "run" / "checkpoints")}
    assert len(kept) == 2


def test_a_checkpoint_holds_the_weights_of_its_step(disk: SlowDisk, tmp_path: Path) -> None:
    taken: dict[int, dict[str, torch.Tensor]] = {}
    original = TrainingState.save

    def save(state: TrainingState, *, wait: bool = True) -> None:
        taken[state.step] = copy.deepcopy(state.method.state_dict())
        original(state, wait=wait)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingState, "save", save)
        disk.at_step[6] = disk.go_on.set  # two steps after the weights of step 4 were copied
        disk.at_step[9] = lambda: os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted):
            train(fast_config("simclr", *RUN, "checkpoint.keep=50"), tmp_path / "run", bar=False)
    for path in checkpoint.found(tmp_path / "run" / "checkpoints"):
        step = checkpoint.step_of(path)
        torch.testing.assert_close(
            checkpoint.load_state(path).model, taken.pop(step), rtol=0, atol=0
        )
    assert not taken  # of step 4, too


def test_a_copy_that_fails_is_one_line_and_keeps_what_was_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(content: Any) -> None:
        raise RuntimeError("cannot allocate 4 GB")

    monkeypatch.setattr(checkpoint_writing, "in_memory", fail)
    with pytest.raises(UserError, match=r"step 4 cannot be written to .*cannot allocate 4 GB"):
        train(fast_config("simclr", *RUN), tmp_path / "run", bar=False)
    assert not [*(tmp_path / "run" / "checkpoints").glob(".writing-*")]


def test_a_signal_waits_for_the_checkpoint_in_flight(
    disk: SlowDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle = TrainingState.settle

    def waited_for(state: TrainingState) -> None:
        if state.step == 6:
            disk.events.append("settle")
            disk.go_on.set()
        settle(state)

    monkeypatch.setattr(TrainingState, "settle", waited_for)
    disk.at_step[6] = lambda: os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Interrupted):
        train(fast_config("simclr", *RUN), tmp_path / "run", bar=False)
    assert disk.events.index("settle") < disk.events.index("written 4")
    names = [path.name for path in checkpoint.found(tmp_path / "run" / "checkpoints")]
    assert names == ["step-00000006", "step-00000004"]


def test_a_crash_while_writing_leaves_the_one_before_to_resume_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(fast_config("simclr", *RUN), tmp_path / "whole", bar=False)
    write = checkpoint_writing._write_model

    def crash(path: Path, model: Any) -> str:
        if "00000008" in path.parent.name:
            path.write_bytes(b"half")
            raise KeyboardInterrupt
        return write(path, model)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint_writing, "_write_model", crash)
        with pytest.raises(KeyboardInterrupt):
            train(fast_config("simclr", *RUN), tmp_path / "run", bar=False)
    names = [path.name for path in checkpoint.found(tmp_path / "run" / "checkpoints")]
    assert names == ["step-00000004"]
    resumed = train(fast_config("simclr", *RUN), tmp_path / "run", bar=False)
    ours, theirs = weights(resumed), weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_checkpoints_are_written_by_the_clock(tmp_path: Path) -> None:
    settings = (*RUN[:2], "checkpoint.every=0.0001m", "checkpoint.keep=50")
    run = train(fast_config("simclr", *settings), tmp_path / "run", bar=False)
    assert len(checkpoint.found(run / "checkpoints")) > 2


def test_a_long_time_is_longer_than_a_short_run(tmp_path: Path) -> None:
    run = train(fast_config("simclr", *RUN[:2], "checkpoint.every=60m"), tmp_path, bar=False)
    assert len(checkpoint.found(run / "checkpoints")) == 1


@pytest.mark.parametrize("written", ["10m", "10 minutes", "10 min", "10.0m"])
def test_minutes_are_written_in_one_way(written: str) -> None:
    every = CheckpointConfig(every=written).every
    assert (str(every), every.seconds, every.steps(7)) == ("10m", 600, 0)
    assert CheckpointConfig(**CheckpointConfig(every=every).model_dump()).every == every


@pytest.mark.parametrize(
    ("written", "words"), [("10", "10 epochs', '10 steps' or '10m"), ("soon", "or '10m'")]
)
def test_an_interval_without_a_unit_is_refused(written: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        CheckpointConfig(every=written)


def save_by_the_clock(folder: str) -> list[str]:
    settings = (*SHORT[:2], "checkpoint.every=0.0001m", "checkpoint.keep=50")
    run = train(fast_config("simclr", *settings), folder, bar=False)
    return [path.name for path in checkpoint.found(run / "checkpoints")]


@pytest.mark.distributed
def test_ranks_save_at_the_same_steps_by_the_clock(tmp_path: Path) -> None:
    one, other = run_on_ranks(save_by_the_clock, 2, str(tmp_path / "run"))
    assert one == other
    assert len(one) > 1
    for path in checkpoint.found(tmp_path / "run" / "checkpoints"):
        assert len(checkpoint.load_state(path).ranks) == 2


def files_read_at_a_restart(run: str) -> tuple[list[str], int]:
    """Returns what this rank reads of the checkpoint of step 4, and the bytes."""
    read: list[tuple[str, int]] = []

    def noted(name: str) -> None:
        original = getattr(checkpoint, name)

        def note(path: Path, **settings: Any) -> Any:
            if not settings.get("mmap"):
                read.append((path.name, path.stat().st_size))
            return original(path, **settings)

        setattr(checkpoint, name, note)

    for name in ("sha256", "_read_torch", "load_tensors"):
        noted(name)
    train(fast_config("swav", *QUEUED), run, bar=False)
    return sorted({name for name, _ in read}), sum(size for _, size in read)


QUEUED = (*RUN, "method.queue_length=128", "method.queue_start=0 epochs")


def train_on_ranks(run: str) -> None:
    train(fast_config("swav", *QUEUED), run, bar=False)


@pytest.mark.distributed
def test_a_rank_reads_its_own_state_alone_and_ends_the_same(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run_on_ranks(train_on_ranks, 2, str(run))
    last = checkpoint.found(run / "checkpoints")[0]
    expected = checkpoint.load_state(last)
    shutil.rmtree(last)
    (run / "complete.json").unlink()
    (_, of_main), (names, own) = run_on_ranks(files_read_at_a_restart, 2, str(run))
    assert names == ["rank-1.pt"]
    assert own < of_main / 2
    found = checkpoint.load_state(last)
    assert any("queue" in key for key in found.ranks[1]["method"])
    assert found.model.keys() == expected.model.keys()
    assert all(torch.equal(found.model[name], expected.model[name]) for name in found.model)
    for ours, theirs in zip(found.ranks, expected.ranks, strict=True):
        assert ours["method"].keys() == theirs["method"].keys()
        assert all(
            torch.equal(value, theirs["method"][key]) for key, value in ours["method"].items()
        )
