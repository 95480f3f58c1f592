"""The length of runs that a budget allows, and schedules that end with it."""

import pytest

from ssl_zoo.errors import UserError
from ssl_zoo.planning.budget import read_budget
from ssl_zoo.planning.fit import expected_seconds, fit_length
from ssl_zoo.planning.rehearsal import Pace
from ssl_zoo.runs.config import RunConfig
from tests.small import fast_config

PACE = Pace(start=10.0, step=0.5, n_steps=6, steps_per_epoch=20, flops=3_000_000_000)


def fitted(text: str, *overrides: str, method: str = "swav") -> RunConfig:
    config = fast_config(method, "epochs=10", "global_batch_size=64", *overrides)
    return fit_length(config, read_budget(text), PACE, overrides=overrides)


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("20 epochs", 400),
        ("2.5 epochs", 50),
        ("10k images", 10_000 // 64),
        ("3e11 FLOPs", 100),
        ("3.1T flops", 1033),
    ],
)
def test_a_run_has_the_steps_that_its_budget_allows(text: str, steps: int) -> None:
    config = fitted(text)
    assert config.total_steps(PACE.steps_per_epoch) == steps
    assert config.epochs == -(-steps // PACE.steps_per_epoch)


def test_a_run_of_whole_epochs_is_that_of_its_epochs() -> None:
    assert fitted("20 epochs").steps is None
    same = fast_config("swav", "epochs=10", "global_batch_size=64")
    assert fitted("10 epochs") == same


def test_the_parts_of_a_schedule_keep_their_share_of_the_run() -> None:
    config = fitted("20 epochs", "schedule.warmup_lr=0.01")
    before = fast_config("swav").schedule.warmup.steps(PACE.steps_per_epoch)
    assert config.schedule.warmup.steps(PACE.steps_per_epoch) == 2 * before
    assert str(fitted("20 epochs", "schedule.warmup=7 steps").schedule.warmup) == "7 steps"


def test_what_happens_at_intervals_is_not_stretched() -> None:
    before = fast_config("deepcluster").method
    assert "recluster_every" in type(before).model_fields
    assert fitted("20 epochs", method="deepcluster").method == before


def test_what_is_longer_than_the_run_stays_so() -> None:
    before = fast_config("swav").method.model_dump()["freeze_prototypes"]
    assert before == "1000 epochs"
    assert fitted("2 epochs").method.model_dump()["freeze_prototypes"] == before


def test_a_run_within_its_time_takes_four_fifths_of_it() -> None:
    config = fitted("200s")
    # With steps of half a second, one more would take longer.
    assert expected_seconds(config, PACE) <= 160 < expected_seconds(config, PACE) + 1.0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("12s", "allows less than 2 steps of 'swav': a step takes 0.5 s, and the start 10 s"),
        ("100 images", "a step takes 64 images; raise --budget"),
        ("1e9 FLOPs", "a step takes 3e\\+09 FLOPs"),
        ("0.01 epochs", "an epoch has 20 steps"),
    ],
)
def test_a_budget_of_less_than_two_steps_is_refused(text: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        fitted(text)


def test_more_steps_than_the_epochs_have_are_refused() -> None:
    with pytest.raises(UserError, match="steps of 201 are more than the 10 epochs .* epochs=11"):
        fast_config("swav", "epochs=10", "steps=201").total_steps(20)


@pytest.mark.parametrize(
    ("text", "every"), [("5 epochs", 20), ("30 epochs", 60), ("0.5 epochs", 10)]
)
def test_a_short_run_is_not_scored_more_often_than_once_an_epoch(text: str, every: int) -> None:
    config = fast_config("swav", "epochs=10", "global_batch_size=64", "evaluation.every=1 epoch")
    found = fit_length(config, read_budget(text), PACE)
    assert found.evaluation.every.steps(PACE.steps_per_epoch) == every
