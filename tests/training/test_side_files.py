"""Files that training can do without."""

import importlib
import shutil
from pathlib import Path
from typing import Any

import pytest

from ssl_zoo.training.side_files import MetricsFile, TensorBoard


def test_metrics_are_lines(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "metrics.jsonl")
    for step in (1, 2):
        file.write({"step": step})
    file.close()
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n{"step": 2}\n'


def test_metrics_that_cannot_be_written_are_reported_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "metrics.jsonl"
    place.mkdir()
    file = MetricsFile(place)
    for step in (1, 2):
        file.write({"step": step})
    place.rmdir()
    file.write({"step": 3})
    file.close()
    assert place.read_text() == '\n{"step": 3}\n'
    assert [each.message for each in caplog.records] == [
        f"'{place}' cannot be written (Is a directory); training continues without it"
    ]


def test_curves_that_cannot_be_written_are_reported_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("tensorboard")
    (tmp_path / "tensorboard").write_text("")
    curves = TensorBoard(tmp_path / "tensorboard", 1)
    for step in (1, 2):
        curves.write({"loss": 1.0}, step)
    curves.close()
    assert len(caplog.records) == 1
    assert "tensorboard' cannot be written (" in caplog.text


def test_a_removed_folder_of_curves_is_made_again(tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("tensorboard")
    events: Any = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")

    curves = TensorBoard(tmp_path / "tensorboard", 1)
    for step in (1, 2, 3):
        curves.write({"loss": float(step)}, step)
        if step == 2:
            shutil.rmtree(tmp_path / "tensorboard")
    curves.close()
    found = events.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(each.step, each.value) for each in found.Scalars("loss")] == [(3, 3.0)]
    assert capsys.readouterr().err == ""
