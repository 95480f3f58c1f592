"""Files that training can do without."""

from pathlib import Path

import pytest

from ssl_zoo.training.side_files import MetricsFile


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
