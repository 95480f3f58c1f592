"""Lines of metrics, whole and damaged."""

from pathlib import Path

import pytest

from ssl_zoo.runs.metrics import parse, read_lines


@pytest.mark.parametrize(
    "line",
    [
        b'{"step": 1, "sec',
        b"\x80\xff",
        b"[]",
        b"{}",
        b'{"step": "1", "seconds": 1}',
        b'{"step": true, "seconds": 1}',
        b'{"step": 1, "seconds": null}',
        b'{"step": 1, "seconds": NaN}',
        b'{"step": ' + b"9" * 5000 + b', "seconds": 1}',
        b"[" * 100_000,
    ],
)
def test_anything_else_is_no_metrics(line: bytes) -> None:
    assert parse(line) is None


def test_empty_lines_are_nothing(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(b'\n{"step": 1, "seconds": 2}\n\n\x80\n')
    lines = read_lines(file)
    assert lines == [
        (b'{"step": 1, "seconds": 2}', {"step": 1, "seconds": 2}),
        (b"\x80", None),
    ]
