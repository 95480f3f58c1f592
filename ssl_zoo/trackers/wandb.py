"""Curves for Weights & Biases."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from ssl_zoo.trackers.base import TRACKERS, Picture, TrackedRun, Tracker


@TRACKERS.register
class WeightsAndBiases(Tracker):
    """A run of Weights & Biases, with files in `RUN/wandb`.

    Log in with `wandb login`, or write files only with `mode: offline` (or `WANDB_MODE=offline`), for
    `wandb sync RUN/wandb/latest-run`. Every start of a run has the same id, so it continues one curve.
    Offline, each start writes the whole curve into a new folder, because a killed process loses what it
    wrote last; only the newest is to be sent.
    """

    package: ClassVar[str] = "wandb"
    extra: ClassVar[str] = "wandb"

    class Config(Tracker.Config):
        """Settings of Weights & Biases."""

        name: Literal["wandb"] = "wandb"
        project: str = Field(default="ssl-zoo", min_length=1)
        """Project of the run."""
        entity: str | None = None
        """User or team; by default that of the login."""
        mode: Literal["online", "offline"] | None = None
        """Whether to send or only to write; by default as in `WANDB_MODE`, or online."""

    def __init__(self, config: Config, *, run: TrackedRun) -> None:
        super().__init__(config, run=run)
        import wandb

        self._run: Any = wandb.init(
            project=config.project,
            entity=config.entity,
            mode=config.mode,
            id=run.id,
            name=run.name,
            resume="allow",
            dir=str(run.folder),
            config=dict(run.settings),
            settings=wandb.Settings(console="off", silent=True),
        )

    def has(self, name: str, step: int) -> bool:
        """Returns whether the server has this step; it refuses steps before its last one."""
        return step < int(self._run.starting_step)  # 0 offline

    def write(self, values: Mapping[str, float], step: int) -> None:
        """Writes metrics and scores of a step."""
        self._run.log(dict(values), step=step)

    def show(self, name: str, picture: Picture, step: int) -> None:
        """Writes an image."""
        import wandb

        self._run.log({name: wandb.Image(picture)}, step=step)

    def close(self) -> None:
        """Sends or writes what is left."""
        self._run.finish()
