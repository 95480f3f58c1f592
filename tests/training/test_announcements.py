"""What a run says at its start."""

import logging
from pathlib import Path
from typing import Any

import pytest

from ssl_zoo.augmentations import opencv
from ssl_zoo.training.train import train
from tests.data import folders


@pytest.mark.parametrize("installed", [True, False])
def test_the_package_that_makes_views_sooner_is_named_if_it_is_missing(
    installed: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(opencv, "installed", lambda: installed)
    caplog.set_level(logging.INFO)
    settings: dict[str, Any] = {
        "data": folders.two_classes(tmp_path / "photos", 8),
        "backbone": "tiny_resnet",
        "epochs": 1,
        "schedule.warmup": "0 epochs",
        "global_batch_size": 8,
        "augmentation.crops.0.size": 16,
        "augmentation.crops.1.size": 8,
        "evaluation.every": "0 epochs",
    }
    train("simclr@photos", tmp_path / "run", **settings)
    said = [line for line in caplog.messages if "pip install 'ssl-zoo[fast]'" in line]
    assert len(said) == (0 if installed else 1)
