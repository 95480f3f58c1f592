"""The speed of training, and how often ranks check for requests."""

import time

MOST_STEPS_BETWEEN_CHECKS = 10
SECONDS_BETWEEN_CHECKS = 5.0
"""Limits of the interval between checks for stop requests and non-finite losses. A check synchronises
with the GPU, so it is not done in every step, but often enough for a launcher's notice, however long
steps take."""


def steps_between_checks(seconds_a_step: float) -> int:
    """Returns the number of steps between two checks for stop requests."""
    return int(
        max(1, min(MOST_STEPS_BETWEEN_CHECKS, SECONDS_BETWEEN_CHECKS / max(seconds_a_step, 1e-3)))
    )


class Clock:
    """Images per second since the last reading."""

    def __init__(self, step: int) -> None:
        self.restart(step)

    def restart(self, step: int) -> None:
        self._step, self._time = step, time.monotonic()

    def rate(self, step: int, images_a_step: int) -> float:
        seconds = max(time.monotonic() - self._time, 1e-9)
        rate = (step - self._step) * images_a_step / seconds
        self.restart(step)
        return round(rate, 1)
