"""Curves for TensorBoard, in `RUN/tensorboard`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml

from ssl_zoo.trackers.base import TRACKERS, Picture, TrackedRun, Tracker


@TRACKERS.register
class TensorBoard(Tracker):
    """Event files in `RUN/tensorboard`; show them with `tensorboard --logdir RUN`.

    A resumed run hides the steps of an earlier start that it takes again. If the folder is removed during
    training, it is created again.
    """

    package: ClassVar[str] = "tensorboard"
    extra: ClassVar[str] = "viz"
    hides: ClassVar[bool] = True

    class Config(Tracker.Config):
        """Settings of TensorBoard."""

        name: Literal["tensorboard"] = "tensorboard"

    def __init__(self, config: Config, *, run: TrackedRun) -> None:
        super().__init__(config, run=run)
        self._folder = run.folder / "tensorboard"
        self._writer: Any = self._opened(run.start_step + 1)
        if run.start_step == 0:
            text = yaml.safe_dump(dict(run.settings), sort_keys=False)
            self._writer.add_text("config", f"```yaml\n{text}```", 0)
            self._writer.flush()

    def write(self, values: Mapping[str, float], step: int) -> None:
        """Writes metrics and scores of a step."""
        self._reopen(step)
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()  # otherwise a thread would write later, and print its errors

    def show(self, name: str, picture: Picture, step: int) -> None:
        """Writes an image."""
        self._reopen(step)
        self._writer.add_image(name, picture, step, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        """Closes the event file."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def _reopen(self, step: int) -> None:
        if self._writer is None or not Path(self._folder).is_dir():
            self.close()
            self._writer = self._opened(step)

    def _opened(self, purge_step: int) -> Any:
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self._folder), purge_step=purge_step)
