"""How training ends early, and how the run's history records it."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ssl_zoo import distributed
from ssl_zoo.errors import Superseded, UserError
from ssl_zoo.runs import checkpoint
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.runs.history import Event


class Interrupted(Exception):
    """Training was stopped on request after saving; starting it again resumes it.

    Attributes:
        folder: the run folder.
        step: number of optimizer steps taken and saved.
        signum: signal that requested the stop.
    """

    def __init__(self, folder: Path, step: int, signum: int) -> None:
        super().__init__(f"stopped after step {step}; everything is saved in '{folder}'")
        self.folder, self.step, self.signum = folder, step, signum


class NonFiniteLoss(UserError):
    """The loss or the weights became infinite or NaN."""


@contextmanager
def remembered(folder: RunFolder) -> Iterator[None]:
    """Records in the history how a `with` block failed or was interrupted."""
    try:
        yield
    except Interrupted as stop:
        if distributed.is_main():
            folder.history.add(
                Event("stopped", step=stop.step, reason=signal.Signals(stop.signum).name)
            )
        raise
    except KeyboardInterrupt:  # a second Ctrl-C, which does not wait for a step to end
        if folder.exists() and distributed.is_main():
            saved = checkpoint.found(folder.checkpoints)[:1]
            step = checkpoint.step_of(saved[0]) if saved else 0
            folder.history.add(Event("stopped", step=step, reason=signal.SIGINT.name))
        raise
    except Superseded:
        raise  # the history now belongs to the other start
    except Exception as error:
        said_by_rank_0 = isinstance(error, UserError) and error.on_all_ranks
        if folder.exists() and (distributed.is_main() or not said_by_rank_0):
            folder.history.add(Event("failed", reason=_in_a_line(error), rank=distributed.rank()))
        raise


def _in_a_line(error: Exception) -> str:
    text = (str(error).splitlines() or [""])[0]
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
