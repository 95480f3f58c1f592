"""Budgets of a comparison: each run ends where its budget does."""

import logging
from pathlib import Path
from typing import Any

import pytest

from ssl_zoo.comparison.compare import compare
from ssl_zoo.errors import UserError
from ssl_zoo.training.train import Trainer
from tests.small import FAST

OVERRIDES = (*FAST, "global_batch_size=256")
KNN: dict[str, Any] = {"name": "knn", "n_resamples": 100}


def test_every_method_gets_the_same_images_and_a_second_call_trains_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    options: dict[str, Any] = {"evaluators": [KNN], "output": tmp_path, "overrides": OVERRIDES}
    with caplog.at_level(logging.INFO):
        found = compare(["swav", "simclr"], budget="2k images", **options)
    for name in ("swav", "simclr"):
        row = found.row(name)
        assert row.images_seen == 7 * 256  # the eighth step would see more than 2000
        assert row.views_seen % row.images_seen == 0
        assert row.flops is not None
        assert row.host_gb is not None
        assert any(
            line.startswith(f"{name}: 7 steps (1.4 epochs, 1,792 images")
            for line in caplog.messages
        )
    assert any(line.startswith("2 runs to train, about ") for line in caplog.messages)

    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("done again")

    monkeypatch.setattr(Trainer, "losses", refuse)
    monkeypatch.setattr(Trainer, "run", refuse)
    again = compare(["swav", "simclr"], budget="2k images", **options)
    assert again.rows == found.rows


@pytest.mark.parametrize("setting", ["epochs=3", "simclr:steps=10"])
def test_a_length_beside_a_budget_is_refused(setting: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--budget sets the length of each run, and so does"):
        compare(["simclr"], budget="20 epochs", output=tmp_path, overrides=[*OVERRIDES, setting])


def test_a_budget_that_is_none_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'2 weeks' is not a budget"):
        compare(["simclr"], budget="2 weeks", output=tmp_path / "out")
    assert not (tmp_path / "out").exists()
