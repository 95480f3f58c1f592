"""Runs that end within an epoch: `steps`."""

import os
import signal
from pathlib import Path

import pytest
import torch

from ssl_zoo.methods.simclr import SimCLR
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.schedule import Progress
from ssl_zoo.training.outcome import Interrupted
from ssl_zoo.training.train import train
from ssl_zoo.weights.open import open_checkpoint
from tests.small import SHORT, fast_config

CONFIG = fast_config("simclr", *SHORT, "epochs=2", "steps=7", "log_every=1")


def test_the_schedule_ends_with_the_run_and_a_stop_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(CONFIG, tmp_path / "whole", bar=False)
    lines = RunFolder(whole).metrics()
    rates = [line["train/lr"] for line in lines if "train/lr" in line]
    # Two steps of warm-up; the last of the other five is one step before the end of half a cosine.
    expected = [
        0.5 * max(rates) * (1 + torch.cos(torch.tensor(torch.pi * t / 5))) for t in range(5)
    ]
    assert rates[2:] == pytest.approx([float(rate) for rate in expected])
    after_step = SimCLR.after_step

    def stop_here(self: SimCLR, progress: Progress) -> None:
        after_step(self, progress)
        if progress.step == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(SimCLR, "after_step", stop_here)
        with pytest.raises(Interrupted):
            train(CONFIG, tmp_path / "stopped", bar=False)
    stopped = train(CONFIG, tmp_path / "stopped", bar=False)
    assert open_checkpoint(stopped).digest == open_checkpoint(whole).digest
    assert open_checkpoint(stopped).facts.step == 7


def test_runs_of_whole_epochs_keep_their_digest() -> None:
    config = fast_config("simclr", *SHORT)
    assert "steps" not in config.identity()
    assert CONFIG.identity()["steps"] == 7
