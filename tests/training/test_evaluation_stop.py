"""A run that is stopped during an evaluation has saved what it scores."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from ssl_zoo.runs import checkpoint
from ssl_zoo.training.online import OnlineEvaluator
from ssl_zoo.training.outcome import Interrupted
from ssl_zoo.training.train import train
from tests.small import fast_config


def test_a_stop_during_an_evaluation_loses_no_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No checkpoint is due but at the end."""
    evaluate, calls = OnlineEvaluator.evaluate, list[int]()

    def stopped(self: OnlineEvaluator, method: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:  # the first is that of the untrained network
            os.kill(os.getpid(), signal.SIGINT)
        return evaluate(self, method)

    monkeypatch.setattr(OnlineEvaluator, "evaluate", stopped)
    settings = (
        "epochs=2",
        "global_batch_size=256",
        "checkpoint.every=0",
        "evaluation.every=1 epoch",
    )
    with pytest.raises(Interrupted) as found:
        train(fast_config("simclr", *settings), tmp_path / "run", bar=False)
    assert found.value.step == 5
    newest = checkpoint.newest(tmp_path / "run" / "checkpoints")
    assert newest is not None
    assert newest.name == "step-00000005"
