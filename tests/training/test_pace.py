"""How often ranks check for requests, and how fast training is."""

import time

import pytest

from ssl_zoo.training.pace import Clock, steps_between_checks


@pytest.mark.parametrize(("pace", "steps"), [(0.0, 10), (0.1, 10), (0.6, 8), (2.0, 2), (60.0, 1)])
def test_a_notice_is_heard_in_time_however_long_steps_take(pace: float, steps: int) -> None:
    assert steps_between_checks(pace) == steps


def test_the_rate_counts_images_since_the_last_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    clock = Clock(step=10)
    now[0] += 4
    assert clock.rate(step=12, images_a_step=32) == 16.0
    now[0] += 2
    assert clock.rate(step=15, images_a_step=32) == 48.0
