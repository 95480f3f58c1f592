"""The speed of training, what its time goes to, and how often ranks check for requests."""

import resource
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import torch

MOST_STEPS_BETWEEN_CHECKS = 10
SECONDS_BETWEEN_CHECKS = 5.0
"""Limits of the interval between checks for stop requests and non-finite losses. A check synchronises
with the GPU, so it is not done in every step, but often enough for a launcher's notice, however long
steps take."""

_Item = TypeVar("_Item")


def steps_between_checks(seconds_a_step: float) -> int:
    """Returns the number of steps between two checks for stop requests."""
    return int(
        max(1, min(MOST_STEPS_BETWEEN_CHECKS, SECONDS_BETWEEN_CHECKS / max(seconds_a_step, 1e-3)))
    )


class Clock:
    """Images per second since the last reading, and the parts of that time that were not computation."""

    def __init__(self, step: int) -> None:
        self._saving = 0.0  # seconds
        self._before = 0.0  # seconds of saving before the last restart
        self._images = self._seconds = self._waited = 0.0  # of all readings together
        self.restart(step)

    def restart(self, step: int) -> None:
        """Leaves out the time since the last reading, except what was spent on saving."""
        self._step, self._time = step, time.monotonic()
        self._waiting = 0.0  # seconds
        self._before = self._saving

    def waiting(self, batches: Iterable[_Item]) -> Iterator[_Item]:
        """Yields batches, and counts the time until each is there."""
        source = iter(batches)
        while True:
            begin = time.monotonic()
            try:
                batch = next(source)
            except StopIteration:
                return
            finally:
                self._waiting += time.monotonic() - begin
            yield batch

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Counts the time of a `with` block as saving."""
        begin = time.monotonic()
        try:
            yield
        finally:
            self._saving += time.monotonic() - begin

    def read(self, step: int, images_a_step: int) -> dict[str, float]:
        """Returns the speed since the last reading, and the shares of waiting and saving in it."""
        seconds = max(time.monotonic() - self._time, 1e-9)
        images = (step - self._step) * images_a_step
        self._images += images
        self._seconds += seconds
        self._waited += min(self._waiting, seconds)
        found = {
            "images_per_second": round(images / seconds, 1),
            "data_share": round(min(self._waiting / seconds, 1.0), 4),
            "saving_share": round(min(self._saving / (seconds + self._before), 1.0), 4),
        }
        self._saving = 0.0
        self.restart(step)
        return found

    def summary(self, views: int) -> str:
        """Returns the speed over all readings, in words.

        Args:
            views: views of each image.
        """
        rate = self._images / max(self._seconds, 1e-9)
        waited = self._waited / max(self._seconds, 1e-9)
        speed = f"{rate:,.0f} images/s ({rate * views:,.0f} views/s)"
        return f"{speed}, {waited:.0%} of the time waiting for them"


def forget_peak_memory() -> None:
    """Lets `peak_memory` measure anew, where the system can: Linux, and torch's memory of a GPU."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # see proc(5)


def peak_memory(device: torch.device) -> dict[str, float]:
    """Returns the largest memory of this process so far, in GB: `host_gb`, and `device_gb` of a GPU."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {"host_gb": round(peak / (1e9 if sys.platform == "darwin" else 1e6), 3)}  # kB on Linux
    if device.type == "cuda":
        found["device_gb"] = round(torch.cuda.max_memory_allocated(device) / 1e9, 3)
    return found
