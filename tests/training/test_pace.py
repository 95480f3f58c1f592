"""How often ranks check for requests, how fast training is, and what its time goes to."""

import time
from collections.abc import Iterator

import pytest
import torch

from ssl_zoo.training.pace import Clock, peak_memory, steps_between_checks


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Returns the time, which tests advance."""
    found = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: found[0])
    return found


@pytest.mark.parametrize(("pace", "steps"), [(0.0, 10), (0.1, 10), (0.6, 8), (2.0, 2), (60.0, 1)])
def test_a_notice_is_heard_in_time_however_long_steps_take(pace: float, steps: int) -> None:
    assert steps_between_checks(pace) == steps


def test_the_rate_counts_images_since_the_last_reading(now: list[float]) -> None:
    clock = Clock(step=10)
    now[0] += 4
    assert clock.read(step=12, images_a_step=32)["images_per_second"] == 16.0
    now[0] += 2
    assert clock.read(step=15, images_a_step=32)["images_per_second"] == 48.0


def test_the_share_of_waiting_for_batches_leaves_out_their_use(now: list[float]) -> None:
    def slow() -> Iterator[int]:
        for batch in range(2):
            now[0] += 3
            yield batch

    clock = Clock(step=0)
    for _ in clock.waiting(slow()):
        now[0] += 1
    assert clock.read(step=2, images_a_step=1)["data_share"] == 0.75
    now[0] += 1
    assert clock.read(step=3, images_a_step=1)["data_share"] == 0.0


def test_an_evaluation_is_left_out_and_saving_before_it_counts(now: list[float]) -> None:
    clock = Clock(step=0)
    now[0] += 5
    clock.read(step=1, images_a_step=1)
    with clock.saving():
        now[0] += 2
    now[0] += 100  # the evaluation
    clock.restart(step=1)
    now[0] += 8
    assert clock.read(step=2, images_a_step=1)["saving_share"] == 0.2


def test_the_summary_is_of_all_readings_and_leaves_out_evaluations(now: list[float]) -> None:
    def slow() -> Iterator[int]:
        now[0] += 1
        yield 0

    clock = Clock(step=0)
    for _ in clock.waiting(slow()):
        now[0] += 3
    clock.read(step=1, images_a_step=2000)
    now[0] += 100
    clock.restart(step=1)
    now[0] += 4
    clock.read(step=2, images_a_step=2000)
    said = "500 images/s (3,000 views/s), 12% of the time waiting for them"
    assert clock.summary(views=6) == said


def test_memory_is_in_gigabytes() -> None:
    found = peak_memory(torch.device("cpu"))
    assert 0.05 < found["host_gb"] < 100
    assert "device_gb" not in found
