"""The contract of trackers: programs that draw the curves of runs."""

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ssl_zoo.config import NamedConfig
from ssl_zoo.errors import UserError
from ssl_zoo.registry import Registry, registry

TRACKERS: "Registry[Tracker]" = registry("tracker")
"""Trackers by name."""

Picture = NDArray[np.uint8]
"""An image `(H, W, 3)`."""


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told of a run.

    Attributes:
        folder: the run folder.
        id: 12 hexadecimal digits that stay the same when the run resumes.
        settings: resolved settings of the run.
        start_step: step that the run resumes from; 0 for a new run.
    """

    folder: Path
    id: str
    settings: Mapping[str, Any]
    start_step: int = 0

    @property
    def name(self) -> str:
        """Name of the run folder."""
        return self.folder.absolute().name


class Tracker(ABC):
    """Writes the metrics of a run; built on rank 0 only.

    Any error that a tracker raises while it writes is reported once, and training continues without it.
    """

    package: ClassVar[str]
    """Name by which its library is imported."""
    extra: ClassVar[str]
    """Extra of ssl-zoo that installs the library."""
    hides: ClassVar[bool] = False
    """Whether it hides the steps of an earlier start by itself when a resumed run takes them again."""

    class Config(NamedConfig):
        """Settings of a tracker."""

        views: int = Field(default=0, ge=0, le=64)
        """Number of training images whose views are shown, at the start of the run."""

    def __init__(self, config: Config, *, run: TrackedRun) -> None:
        self.config, self.run = config, run

    def has(self, name: str, step: int) -> bool:
        """Returns whether an earlier start wrote this step of a metric, so that it is not written again.

        What is missing is written from `metrics.jsonl` when the run resumes.
        """
        return False

    @abstractmethod
    def write(self, values: Mapping[str, float], step: int) -> None:
        """Writes metrics and scores of a step."""

    @abstractmethod
    def show(self, name: str, picture: Picture, step: int) -> None:
        """Writes an image."""

    @abstractmethod
    def close(self) -> None:
        """Writes what is left."""


def check_installed(config: NamedConfig) -> None:
    """Checks that the library of a tracker is installed.

    Raises:
        UserError: it is not.
    """
    tracker = TRACKERS[config.name]
    if importlib.util.find_spec(tracker.package) is None:
        raise UserError.everywhere(
            f"log: {config.name} needs the package {tracker.package}, which is not installed; install it "
            f"with: pip install 'ssl-zoo[{tracker.extra}]', or leave it out of log"
        )
