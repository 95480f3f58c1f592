"""Files that a run writes but does not need: whatever happens to them, training continues."""

import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

logger = logging.getLogger(__name__)


class MetricsFile:
    """Appends records to `metrics.jsonl`.

    Args:
        path: the file; it is opened with the first record.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None
        self._has_failed = False

    def write(self, record: Mapping[str, Any]) -> None:
        """Writes a record as one line; warns once if that is not possible."""
        # After a failure, half a line may be in the file.
        line = "\n" * self._has_failed + json.dumps(record) + "\n"
        try:
            if self._file is None:
                self._file = self._path.open("a", encoding="utf-8", buffering=1)
            self._file.write(line)
        except OSError as error:
            if not self._has_failed:
                _warn(self._path, error)
            self._has_failed = True
            self.close()

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            with suppress(OSError):  # what could not be written before
                self._file.close()
        self._file = None


def _warn(path: Path, error: Exception) -> None:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    logger.warning("'%s' cannot be written (%s); training continues without it", path, reason)
