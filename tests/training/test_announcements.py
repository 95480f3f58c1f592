"""What a run says at its start."""

import logging
from pathlib import Path
from typing import Any

import pytest

from ssl_zoo.augmentations import opencv
from ssl_zoo.training.train import train
from tests.data import folders
from tests.small import SHORT, fast_config


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


def test_the_header_has_three_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    run = train(fast_config("simclr", *SHORT), tmp_path / "run", bar=False)
    assert caplog.messages[0].startswith("simclr on digits_affine: 1438 training images, views of")
    assert "backbone tiny_resnet, 5.1 k parameters" in caplog.messages[1]
    assert caplog.messages[2] == f"1 epochs of 5 steps, 5 steps, in '{run}'"
