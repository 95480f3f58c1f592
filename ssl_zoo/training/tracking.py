"""The trackers of a run: they never stop training, and a resumed run continues one curve."""

import importlib.util
import json
import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ssl_zoo import distributed
from ssl_zoo.config import NamedConfig
from ssl_zoo.data.loader import ViewLoader
from ssl_zoo.files import write_text
from ssl_zoo.runs.config import RunConfig
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.trackers.base import TRACKERS, TrackedRun, Tracker, check_installed
from ssl_zoo.training.preview import draw

logger = logging.getLogger(__name__)

ID_FILE = "trackers.json"
"""File in the run folder with the id of its curves."""
_NO_METRICS = ("step", "epoch", "seconds")
PAUSE_S = 60.0
"""Time for which a tracker that failed is left alone; twice as long after each further failure, because a
server that does not answer holds up training."""
DEFAULT = "tensorboard"
"""Tracker of runs that name none, if it is installed."""


def trackers_of(config: RunConfig) -> list[NamedConfig]:
    """Returns the trackers of a run.

    Raises:
        UserError: the library of one that the settings name is not installed.
    """
    if config.log is None:
        is_there = importlib.util.find_spec(TRACKERS[DEFAULT].package) is not None
        return [TRACKERS.config(DEFAULT)] if is_there else []
    for tracker in config.log:
        check_installed(tracker)
    return list(config.log)


def open_tracking(
    config: RunConfig,
    folder: RunFolder,
    trackers: Sequence[NamedConfig],
    loader: ViewLoader,
    *,
    start_step: int,
) -> "Tracking | None":
    """Opens the trackers on rank 0; returns None on other ranks."""
    if not distributed.is_main():
        return None
    return Tracking(
        config,
        folder,
        trackers,
        start_step=start_step,
        sheet=lambda n: draw(loader.dataset, loader.first(n)),
    )


class Tracking:
    """The trackers of a run, on rank 0.

    Args:
        config: settings of the run.
        folder: the run folder.
        trackers: settings of the trackers.
        start_step: step that the run resumes from.
        sheet: returns a picture of the views of a number of images.
    """

    def __init__(
        self,
        config: RunConfig,
        folder: RunFolder,
        trackers: Sequence[NamedConfig],
        *,
        start_step: int,
        sheet: Callable[[int], Any],
    ) -> None:
        self._is_new = start_step == 0
        self._open: dict[str, Tracker] = {}
        self._failed: set[str] = set()
        self._pauses: dict[str, float] = {}  # seconds
        self._paused_until: dict[str, float] = {}
        settings = config.model_dump(mode="json")
        named = any(not TRACKERS[each.name].hides for each in trackers)
        identity = self._id(folder.path / ID_FILE) if named else ""
        run = TrackedRun(folder.path, identity, settings, start_step)
        for each in trackers:
            self._build(each, run)
        self._show_views(sheet)
        if not self._is_new:
            self._catch_up(folder)

    def write(self, values: Mapping[str, float], step: int) -> None:
        """Writes metrics of a step to all trackers that do not have it."""
        for name, tracker in self._open.items():
            if time.monotonic() < self._paused_until.get(name, 0.0):
                continue
            new = {key: value for key, value in values.items() if not tracker.has(key, step)}
            if new:
                self._attempt(name, lambda t=tracker, n=new: t.write(n, step))  # type: ignore[misc]

    def close(self) -> None:
        """Closes all trackers."""
        for name, tracker in self._open.items():
            self._attempt(name, tracker.close)
        self._open.clear()

    def _id(self, file: Path) -> str:
        """Returns the id of the curves of the run; a run that starts from the beginning begins new ones."""
        if not self._is_new:
            try:
                return str(json.loads(file.read_text(encoding="utf-8"))["id"])
            except (OSError, ValueError, KeyError, TypeError):
                logger.debug("'%s' is missing or damaged; new curves begin", file)
        made = uuid.uuid4().hex[:12]
        try:
            write_text(file, json.dumps({"id": made}))
        except OSError as error:
            self._warn(ID_FILE, error)
        return made

    def _build(self, config: NamedConfig, run: TrackedRun) -> None:
        try:
            self._open[config.name] = TRACKERS.build(config, run=run)
        except Exception as error:  # libraries raise different errors for the same problem
            self._warn(config.name, error)

    def _show_views(self, sheet: Callable[[int], Any]) -> None:
        """Shows the views of the first images to trackers that are asked to and do not have them."""
        for name, tracker in self._open.items():
            is_there = not self._is_new and (tracker.hides or tracker.has("views", 0))
            if tracker.config.views and not is_there:
                self._attempt(name, partial(_show, tracker, sheet))

    def _catch_up(self, folder: RunFolder) -> None:
        """Writes what is in `metrics.jsonl` and was lost on the way to a tracker."""
        every = self._open
        self._open = {name: one for name, one in every.items() if not one.hides}
        for record in folder.metrics() if self._open else ():
            values = {key: value for key, value in record.items() if key not in _NO_METRICS}
            self.write(values, record["step"])
        self._open = every

    def _attempt(self, name: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # whatever a library or its thread raised
            self._pauses[name] = 2 * self._pauses.get(name, PAUSE_S / 2)
            self._paused_until[name] = time.monotonic() + self._pauses[name]
            self._warn(name, error)

    def _warn(self, name: str, error: Exception) -> None:
        """Warns once of each tracker that cannot be written."""
        if name not in self._failed:
            self._failed.add(name)
            text = (str(error).splitlines() or [""])[0]
            reason = getattr(error, "strerror", None) or text or type(error).__name__
            logger.warning(
                "'%s' cannot be written (%s); training continues without it", name, reason
            )


def _show(tracker: Tracker, sheet: Callable[[int], Any]) -> None:
    tracker.show("views", np.asarray(sheet(tracker.config.views), dtype=np.uint8), 0)
