"""Curves for Trackio."""

import os
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from typing import Any, ClassVar, Literal

from pydantic import Field

from ssl_zoo.trackers.base import TRACKERS, Picture, TrackedRun, Tracker


@TRACKERS.register
class Trackio(Tracker):
    """A run of Trackio, which draws curves on this machine; show them with `trackio show`.

    Curves are in Trackio's own folder (`TRACKIO_DIR`), or in a Space on Hugging Face with `space`.
    """

    package: ClassVar[str] = "trackio"
    extra: ClassVar[str] = "trackio"

    class Config(Tracker.Config):
        """Settings of Trackio."""

        name: Literal["trackio"] = "trackio"
        project: str = Field(default="ssl-zoo", min_length=1)
        """Project of the run."""
        space: str | None = None
        """Space on Hugging Face to send curves to, such as `me/curves`; none by default."""

    def __init__(self, config: Config, *, run: TrackedRun) -> None:
        super().__init__(config, run=run)
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        with redirect_stdout(sys.stderr):  # standard output is for results
            import trackio

            self._run: Any = trackio.init(
                project=config.project,
                name=f"{run.name}-{run.id[:6]}",  # Trackio tells runs apart by name
                space_id=config.space,
                config=dict(run.settings),
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
            logged = trackio.SQLiteStorage.get_logs(config.project, self._run.name)
        self._known: dict[str, set[int]] = {}
        for line in logged:
            for name in line:
                self._known.setdefault(name, set()).add(line["step"])

    def has(self, name: str, step: int) -> bool:
        """Returns whether an earlier start wrote this step of a metric."""
        return step in self._known.get(name, ())

    def write(self, values: Mapping[str, float], step: int) -> None:
        """Writes metrics and scores of a step."""
        self._run.log(dict(values), step=step)

    def show(self, name: str, picture: Picture, step: int) -> None:
        """Writes an image."""
        import trackio

        self._run.log({name: trackio.Image(picture)}, step=step)

    def close(self) -> None:
        """Writes what is left."""
        import trackio

        with redirect_stdout(sys.stderr):
            trackio.finish()
