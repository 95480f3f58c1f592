"""Files that a run writes but does not need: whatever happens to them, training continues."""

import importlib.util
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


class TensorBoard:
    """Writes curves for TensorBoard, if it is installed.

    Args:
        folder: folder of the event files; if it is removed during training, it is created again.
        purge_step: step from which curves of an earlier start are hidden.
    """

    def __init__(self, folder: Path, purge_step: int) -> None:
        self._folder = folder
        self._is_there = importlib.util.find_spec("tensorboard") is not None
        self._has_failed = False
        self._writer: Any = None
        self._open(purge_step)

    def write(self, scores: Mapping[str, float], step: int) -> None:
        """Writes scores; warns once if that is not possible."""
        if self._writer is None or not self._folder.is_dir():
            self._open(step)
        try:
            if self._writer is not None:
                for name, value in scores.items():
                    self._writer.add_scalar(name, value, step)
                self._writer.flush()  # otherwise a thread would write later, and print its errors
        except Exception as error:  # whatever its thread raised
            self._fail(error)

    def close(self) -> None:
        """Closes the event file."""
        if self._writer is not None:
            with suppress(Exception):
                self._writer.close()
        self._writer = None

    def _open(self, purge_step: int) -> None:
        self.close()
        if not self._is_there:
            return
        from torch.utils.tensorboard import SummaryWriter

        try:
            self._writer = SummaryWriter(str(self._folder), purge_step=purge_step)
        except Exception as error:  # libraries raise different errors for the same problem
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if not self._has_failed:
            _warn(self._folder, error)
        self._has_failed = True
        self.close()


def _warn(path: Path, error: Exception) -> None:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    logger.warning("'%s' cannot be written (%s); training continues without it", path, reason)
