"""What a run is built from, and sizes and durations that do not fit it."""

from pathlib import Path

import pytest
import torch

from ssl_zoo.errors import UserError
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.training.train import Trainer, train
from tests.small import fast_config
from tests.training.test_train import queue_config


def test_a_data_set_smaller_than_a_batch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="2048"):
        train(fast_config("simclr", "global_batch_size=2048"), tmp_path / "run", bar=False)


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ("method.freeze_prototypes=5005 steps", "method.freeze_prototypes"),
        ("method.queue_start=3 epochs", "method.queue_start"),
    ],
)
def test_a_duration_that_is_not_shorter_than_the_run_is_refused(
    tmp_path: Path, setting: str, name: str
) -> None:
    with pytest.raises(UserError, match="use at most 131 steps, for example") as found:
        train(queue_config(setting), tmp_path / "run", bar=False)
    assert str(found.value).startswith(name)
    assert not (tmp_path / "run").exists()


def test_prototypes_that_are_never_trained_are_not_a_mistake(tmp_path: Path) -> None:
    config = queue_config("method.freeze_prototypes=1000 epochs")
    trainer = Trainer(config, RunFolder(tmp_path / "run"), torch.device("cpu"))
    assert "freeze_prototypes" not in trainer.method.durations()
