"""Durations, and the learning rate against the formula of SwAV's training code.

facebookresearch/swav (commit 06b1b7c), main_swav.py, lines 178 to 183: `linspace(start, peak, n)`
with both ends, then `final + (peak - final) / 2 * (1 + cos(pi * t / T))` from t = 0.
"""

import math
from typing import Annotated

import numpy as np
import pytest
from pydantic import ValidationError

from ssl_zoo.config import Config, validate
from ssl_zoo.errors import UserError
from ssl_zoo.runs.config import run_config
from ssl_zoo.schedule import (
    Duration,
    Interval,
    Progress,
    Ramp,
    ScheduleConfig,
    Share,
    cosine,
    epochs,
    within,
)

STEPS_PER_EPOCH, TOTAL_STEPS, WARMUP_STEPS = 5, 50, 10
PEAK, START, FINAL = 4.8, 0.3, 0.0048


def rates(**settings: object) -> list[float]:
    schedule = ScheduleConfig.model_validate(settings)
    return [
        schedule.lr(step, peak_lr=PEAK, total_steps=TOTAL_STEPS, steps_per_epoch=STEPS_PER_EPOCH)
        for step in range(TOTAL_STEPS)
    ]


def reference(warmup_steps: int, final: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    rest = TOTAL_STEPS - warmup_steps
    falling = [
        final + 0.5 * (PEAK - final) * (1 + math.cos(math.pi * t / rest)) for t in range(rest)
    ]
    return np.concatenate([np.linspace(START, PEAK, warmup_steps), falling])


@pytest.mark.parametrize("warmup", ["2 epochs", "10 steps"])
def test_warmup_and_cosine_are_those_of_the_authors(warmup: str) -> None:
    found = rates(warmup=warmup, warmup_lr=START, final_lr=FINAL)
    np.testing.assert_allclose(found, reference(WARMUP_STEPS, FINAL), rtol=1e-12)


def test_the_peak_comes_twice_and_the_final_rate_never() -> None:
    found = rates(warmup="2 epochs", warmup_lr=START, final_lr=FINAL)
    assert [step for step, lr in enumerate(found) if lr == PEAK] == [9, 10]
    assert found[0] == START
    assert min(found[10:]) > FINAL


def test_without_warmup_the_first_step_has_the_peak_rate() -> None:
    np.testing.assert_allclose(rates(), reference(0, 0.0), rtol=1e-12)
    assert rates()[0] == PEAK


def test_a_warmup_of_one_step_is_at_the_peak() -> None:
    assert rates(warmup="1 step", warmup_lr=START)[:2] == [PEAK, PEAK]


def test_half_a_cosine_is_halfway_in_the_middle() -> None:
    assert cosine(0, 10, start=1.0, end=0.0) == 1.0
    assert cosine(5, 10, start=1.0, end=0.0) == pytest.approx(0.5)
    assert cosine(10, 10, start=1.0, end=0.25) == pytest.approx(0.25)
    assert cosine(0, 0, start=1.0, end=0.25) == 0.25


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("10 epochs", 50),
        ("1 epoch", 5),
        ("0.5 epochs", 2),
        ("0.7 epochs", 4),
        ("500 steps", 500),
        ("1 step", 1),
        (" 3epochs ", 15),
        ("0 steps", 0),
    ],
)
def test_a_duration_is_a_number_of_steps(text: str, steps: int) -> None:
    assert Duration.model_validate(text).steps(STEPS_PER_EPOCH) == steps


@pytest.mark.parametrize("text", ["10 epochs", "1 epoch", "500 steps", "1 step", "0.5 epochs"])
def test_a_duration_is_written_as_it_is_read(text: str) -> None:
    assert str(Duration.model_validate(text)) == text
    assert Duration.model_validate(text).model_dump_json() == f'"{text}"'


@pytest.mark.parametrize("value", [0, 0.0, "0", "0.0"])
def test_zero_needs_no_unit(value: object) -> None:
    duration = Duration.model_validate(value)
    assert duration == Duration.model_validate("0 epochs")
    assert duration.steps(STEPS_PER_EPOCH) == 0


@pytest.mark.parametrize(
    "text", ["ten epochs", "10 minutes", "-1 epochs", "1e3 steps", "", "-1", "1e3", False, None]
)
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(UserError, match=rf"{text!r} is not a duration.*'10 epochs'.*'500 steps'"):
        validate(Duration, text)


@pytest.mark.parametrize("number", [10, "10", 0.5])
def test_a_number_without_a_unit_is_refused_with_both(number: object) -> None:
    with pytest.raises(
        UserError, match=f"{number} has no unit.*'{number} epochs'.*'{number} steps'"
    ):
        validate(Duration, number)


def test_scores_during_training_are_turned_off_by_zero() -> None:
    config = run_config("simclr", overrides=["evaluation.every=0"])
    assert (
        config.digest() == run_config("simclr", overrides=["evaluation.every=0 epochs"]).digest()
    )
    assert str(config.evaluation.every) == "0 epochs"


def test_steps_are_epochs_too() -> None:
    assert Duration.model_validate("10 steps").epochs(STEPS_PER_EPOCH) == 2.0
    assert epochs(3).epochs(STEPS_PER_EPOCH) == 3.0


@pytest.mark.parametrize("text", ["1000000 steps", "1234567 steps", "0.5 epochs", "1 epoch"])
def test_a_duration_reads_back_what_it_writes(text: str) -> None:
    duration = Duration.model_validate(text)
    assert Duration.model_validate(str(duration)) == duration


def at(step: int, total_steps: int = 10) -> Progress:
    """Returns the progress of a run with 5 steps an epoch."""
    return Progress(step, step // 5, total_steps, 5)


def test_a_plain_number_is_a_ramp_that_stays() -> None:
    ramp = Ramp.model_validate(0.5)
    assert [ramp.at(at(step)) for step in (0, 9)] == [0.5, 0.5]


class Settings(Config):
    """A share, and a ramp with bounds of its own."""

    share: Share = Ramp(start=0.5, end=1.0)
    temperature: Annotated[Ramp, within(0.1, 2)] = Ramp(start=1.0, end=1.0)


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        ({"share": 1.5}, "between 0 and 1"),
        ({"share": {"start": -0.1, "end": 1}}, "between 0 and 1"),
        ({"temperature": {"start": 1, "end": 0.05}}, "between 0.1 and 2"),
    ],
)
def test_a_ramp_that_leaves_its_bounds_is_refused(wrong: dict[str, object], rule: str) -> None:
    with pytest.raises(ValidationError, match=rule):
        Settings.model_validate(wrong)


def test_a_share_may_reach_its_bounds() -> None:
    share = Settings.model_validate({"share": {"start": 0, "end": 1}}).share
    assert (share.start, share.end) == (0, 1)


def test_a_cosine_ramp_is_byols_momentum() -> None:
    """Equation of section 3.3 of arXiv:2006.07733: 1 - (1 - base) (cos(pi k / K) + 1) / 2."""
    ramp = Ramp(start=0.99, end=1.0)
    for step in (0, 3, 7, 10):
        expected = 1 - (1 - 0.99) * (math.cos(math.pi * step / 10) + 1) / 2
        assert ramp.at(at(step)) == pytest.approx(expected)


def test_a_linear_ramp_ends_after_its_duration() -> None:
    ramp = Ramp(start=0.04, end=0.07, shape="linear", over=Duration(value=2, unit="epochs"))
    values = [ramp.at(at(step, 100)) for step in (0, 5, 10, 50)]
    assert values == pytest.approx([0.04, 0.055, 0.07, 0.07])


def test_weight_decay_moves_over_the_whole_run() -> None:
    schedule = ScheduleConfig(final_weight_decay=0.4)
    values = [schedule.weight_decay(step, start=0.04, total_steps=10) for step in (0, 5, 10)]
    assert values == pytest.approx([0.04, 0.22, 0.4])
    assert ScheduleConfig().weight_decay(5, start=0.04, total_steps=10) == 0.04


@pytest.mark.parametrize(
    ("every", "epochs"),
    [
        ("1 epoch", [0, 1, 2, 3, 4, 5]),
        ("2 epochs", [0, 2, 4]),
        ("25 steps", [0, 3, 5]),
        ("3 steps", [0, 1, 2, 3, 4, 5]),
        ("0 epochs", [0, 1, 2, 3, 4, 5]),
    ],
)
def test_what_happens_between_epochs_is_due_at_the_next(every: str, epochs: list[int]) -> None:
    duration = Duration.model_validate(every)
    assert [epoch for epoch in range(6) if duration.is_due(10 * epoch, 10)] == epochs


@pytest.mark.parametrize(
    ("every", "message"),
    [
        (None, "null is not an interval"),
        ({"every": "1 epoch", "minutes": 5}, "not both"),
        ("soon", "is not an interval"),
    ],
)
def test_an_interval_that_is_none_is_refused(every: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Interval.model_validate(every)
