"""`train` takes a method by name, with settings."""

from pathlib import Path

import pytest

from ssl_zoo.errors import UserError
from ssl_zoo.runs.config import run_config
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.training.train import train


def test_a_method_by_name_is_trained_with_settings(tmp_path: Path) -> None:
    run = train("random_init", tmp_path / "run", seed=5, evaluation={"every": "0 epochs"})
    assert RunFolder(run).config().seed == 5


def test_settings_beside_complete_ones_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'seed' is given beside complete settings"):
        train(run_config("random_init"), tmp_path / "run", seed=5)
