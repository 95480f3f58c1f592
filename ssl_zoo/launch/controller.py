"""The process that controls the tasks of a job on this machine: `python -m ssl_zoo.launch.controller`."""

import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from submitit.local.local import LOCAL_REQUEUE_RETURN_CODE, Controller

GRACE_S = 10.0
"""Seconds that the other tasks keep running after one has failed."""


class PatientController(Controller):
    """Waits for all tasks; after one has failed, the others get a few seconds to end."""

    def wait(self, freq: int = 24) -> Sequence[int | None]:
        """Returns the exit status of each task; None for running ones."""
        left = GRACE_S
        for moment in range(freq * self.timeout_s):
            codes = [task.poll() for task in self.tasks]
            failed = any(code not in (None, 0, LOCAL_REQUEUE_RETURN_CODE) for code in codes)
            left -= failed / freq
            if None not in codes or left < 0:
                return codes
            if moment == freq * (self.timeout_s - self.signal_delay_s):
                self._forward_signal(signal.SIGUSR2)
            time.sleep(1 / freq)
        return [task.poll() for task in self.tasks]


def control(folder: Path, starts: int) -> None:
    """Runs the tasks of a local job, restarting them on request, at most `starts` times in total."""
    controller = PatientController(folder)
    forward = controller._forward_signal
    signal.signal(signal.SIGUSR2, lambda number, frame: forward(signal.Signals(number)))
    controller.run(max_retry=starts)


if __name__ == "__main__":
    control(Path(sys.argv[1]), int(sys.argv[2]))
