"""What ranks tell each other: one process is a group of one; two are in `test_distributed.py`."""

import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from ssl_zoo.errors import Superseded
from ssl_zoo.methods.simclr import SimCLR
from ssl_zoo.runs import checkpoint
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.schedule import Progress
from ssl_zoo.training.agreement import Agreement
from ssl_zoo.training.outcome import NonFiniteLoss
from ssl_zoo.training.signals import StopRequest
from ssl_zoo.training.train import train
from tests.small import fast_config

CPU = torch.device("cpu")


def asked(*signals: int) -> StopRequest:
    request = StopRequest()
    for signum in signals:
        request.hear(signum)
    return request


def test_without_a_request_training_continues(tmp_path: Path) -> None:
    assert Agreement(RunFolder(tmp_path), CPU).reach(5, asked(), look=False) == 0


def test_a_second_agreement_after_one_step_does_not_change_how_often_ranks_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter((0.0, 20.0, 20.0, 20.0))  # a step takes 20 s
    clock = SimpleNamespace(monotonic=lambda: next(times))
    monkeypatch.setattr("ssl_zoo.training.agreement.time", clock)
    agreement = Agreement(RunFolder(tmp_path), CPU)
    agreement.reach(1, asked(), look=False)
    assert agreement.is_due(2)
    agreement.reach(1, asked(), look=True)
    assert agreement.is_due(2)


def test_the_weightiest_signal_is_returned(tmp_path: Path) -> None:
    request = asked(signal.SIGUSR2, signal.SIGTERM)
    found = Agreement(RunFolder(tmp_path), CPU).reach(5, request, look=False)
    assert found == signal.SIGUSR2


def test_the_first_loss_that_is_not_finite_is_named(tmp_path: Path) -> None:
    agreement = Agreement(RunFolder(tmp_path), CPU)
    for step, loss in enumerate((1.0, float("inf"), float("nan")), 3):
        agreement.note_loss(torch.tensor(loss), step)
    with pytest.raises(NonFiniteLoss, match=r"step 4 on rank 0; no checkpoint"):
        agreement.reach(6, asked(), look=False)


def test_weights_that_are_not_finite_are_named(tmp_path: Path) -> None:
    agreement, layer = Agreement(RunFolder(tmp_path), CPU), nn.Linear(2, 1)
    agreement.note_weights(layer.parameters(), 1)
    assert agreement.reach(1, asked(), look=False) == 0
    nn.init.constant_(layer.bias, float("nan"))
    agreement.note_weights(layer.parameters(), 2)
    with pytest.raises(NonFiniteLoss, match="step 2"):
        agreement.reach(2, asked(), look=False)


def test_a_process_that_lost_the_folder_stops(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.ownership.take()
    RunFolder(tmp_path).ownership.take()  # another start
    with pytest.raises(Superseded, match="has taken over"):
        Agreement(folder, CPU).reach(3, asked(), look=True)


def test_ranks_meet_again_after_the_interval(tmp_path: Path) -> None:
    agreement = Agreement(RunFolder(tmp_path), CPU)
    agreement.reach(4, asked(), look=False)
    assert not agreement.is_due(4)
    assert agreement.is_due(4 + 10)  # no interval is longer


def test_a_loss_that_is_not_finite_names_step_rank_and_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = SimCLR.forward

    def break_down(self: SimCLR, batch: Any, progress: Progress) -> Any:
        output = forward(self, batch, progress)
        if progress.step == 9:
            object.__setattr__(output, "loss", output.loss * float("nan"))
        return output

    monkeypatch.setattr(SimCLR, "forward", break_down)
    config = fast_config("simclr", "epochs=1", "checkpoint.every=4 steps")
    with pytest.raises(NonFiniteLoss, match=r"not finite at step 10 on rank 0; .*step-00000008"):
        train(config, tmp_path / "run", bar=False)
    path = checkpoint.newest(tmp_path / "run" / "checkpoints")
    assert path is not None
    newest = checkpoint.load_state(path)
    assert newest.step == 8
    assert all(torch.isfinite(value).all() for value in newest.model.values())


def test_weights_that_are_not_finite_are_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(self: SimCLR, progress: Progress) -> None:
        if progress.step == 7:
            next(self.parameters()).data.fill_(float("nan"))

    monkeypatch.setattr(SimCLR, "after_step", spoil)
    config = fast_config("simclr", "epochs=1", "checkpoint.every=4 steps")
    with pytest.raises(NonFiniteLoss, match=r"not finite at step 8 on rank 0; .*step-00000004"):
        train(config, tmp_path / "run", bar=False)


def test_a_stop_does_not_save_weights_that_are_not_finite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil_and_stop(self: SimCLR, progress: Progress) -> None:
        if progress.step == 5:
            next(self.parameters()).data.fill_(float("nan"))
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(SimCLR, "after_step", spoil_and_stop)
    config = fast_config("simclr", "epochs=1", "checkpoint.every=4 steps")
    with pytest.raises(NonFiniteLoss, match=r"not finite at step 6 on rank 0; .*step-00000004"):
        train(config, tmp_path / "run", bar=False)
