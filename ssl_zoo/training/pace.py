"""How fast training goes, and how often ranks look up from it."""

import time

MOST_STEPS_BETWEEN_CHECKS = 10
SECONDS_BETWEEN_CHECKS = 5.0
"""Asking ranks for stop requests and broken losses waits for the GPU, so there it is not done every
step; but often enough for a launcher's notice, however long steps take."""


def steps_between_checks(seconds_a_step: float) -> int:
    """Returns after how many steps ranks look again whether one was asked to stop."""
    return int(
        max(1, min(MOST_STEPS_BETWEEN_CHECKS, SECONDS_BETWEEN_CHECKS / max(seconds_a_step, 1e-3)))
    )


class Clock:
    """Images per second since the last look."""

    def __init__(self, step: int) -> None:
        self.restart(step)

    def restart(self, step: int) -> None:
        self._step, self._time = step, time.monotonic()

    def rate(self, step: int, images_a_step: int) -> float:
        seconds = max(time.monotonic() - self._time, 1e-9)
        rate = (step - self._step) * images_a_step / seconds
        self.restart(step)
        return round(rate, 1)
