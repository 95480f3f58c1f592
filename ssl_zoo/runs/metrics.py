"""Lines of `metrics.jsonl`, each the metrics of a step as JSON; anything may happen to the file."""

import json
import math
from pathlib import Path
from typing import Any

DAMAGED = "metrics.damaged"
"""File next to `metrics.jsonl` for lines that are not metrics."""

Line = tuple[bytes, dict[str, Any] | None]


def parse(line: bytes) -> dict[str, Any] | None:
    """Returns the metrics of a line; None for anything else, such as an incomplete line."""
    try:
        record = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or type(record.get("step")) is not int:
        return None
    seconds: Any = record.get("seconds")
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    return record if is_number and math.isfinite(seconds) else None


def read_lines(file: Path) -> list[Line]:
    """Returns the lines that are not empty, each with its metrics, or None if it is damaged.

    Raises:
        OSError: the file cannot be read.
    """
    return [(line, parse(line)) for line in file.read_bytes().split(b"\n") if line.strip()]


def keep_damaged(file: Path, damaged: list[bytes]) -> Path:
    """Appends damaged lines to a file next to the metrics, and returns it.

    Raises:
        OSError: it cannot be written.
    """
    aside = file.with_name(DAMAGED)
    with aside.open("ab") as opened:
        opened.writelines(line + b"\n" for line in damaged)
    return aside
