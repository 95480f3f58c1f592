"""Alarms: metrics out of bounds are reported once, with advice."""

from ssl_zoo.method import Alarm
from ssl_zoo.training.alarms import AlarmBell, Decline, Ring, hear_again


def test_an_alarm_rings_once_after_its_patience() -> None:
    bell = AlarmBell([Alarm(metric="x", above=1, patience=2, advice="do this")], quiet_steps=10)
    heard = [bell.hear(step, {"x": 2.0}) for step in (5, 10, 11, 12, 13)]
    assert heard == [[], [], [], ["step 12: x is 2: do this"], []]


def test_a_value_within_bounds_starts_the_count_again() -> None:
    bell = AlarmBell([Alarm(metric="x", below=0, patience=2, advice="do this")], quiet_steps=0)
    heard = [bell.hear(step, {"x": value}) for step, value in enumerate((-1.0, 1.0, -1.0), 1)]
    assert heard == [[], [], []]
    assert len(bell.hear(4, {"x": float("nan")})) == 1


def test_a_loss_that_is_still_near_chance_in_the_second_half_rings() -> None:
    bell = AlarmBell([Alarm.at_chance("do this")], quiet_steps=10, late_step=50)
    heard = [bell.hear(step, {"loss_over_chance": 0.96}) for step in range(41, 60)]
    rang = [step for step, lines in zip(range(41, 60), heard, strict=True) if lines]
    assert rang == [55]


def test_a_loss_near_chance_in_the_first_half_does_not_ring() -> None:
    bell = AlarmBell([Alarm.at_chance("do this")], quiet_steps=10, late_step=50)
    assert not any(bell.hear(step, {"loss_over_chance": 0.96}) for step in range(41, 50))


def ranks(bell: AlarmBell, values: list[float]) -> list[int]:
    """Returns the positions at which the bell rings."""
    return [step for step, value in enumerate(values, 1) if bell.hear(step, {"rank": value})]


def test_a_metric_that_falls_below_half_of_its_highest_level_rings_once() -> None:
    falling = Decline("rank", "do this", window=3)
    # Medians of three: 10 at the third step, and 4 at the seventh.
    values = [10.0, 10.0, 90.0, 10.0, 10.0, 4.0, 4.0, 4.0]
    assert ranks(AlarmBell([], quiet_steps=0, declines=[falling]), values) == [7]


def test_a_metric_that_is_low_from_the_start_has_not_fallen() -> None:
    falling = Decline("rank", "do this", window=3)
    assert ranks(AlarmBell([], quiet_steps=0, declines=[falling]), [1.0] * 9) == []


def test_an_alarm_rings_until_the_metric_is_within_bounds() -> None:
    bell = AlarmBell([Alarm(metric="x", above=1, patience=2, advice="do this")], quiet_steps=0)
    for step, value in enumerate((2.0, 2.0, 3.0), 1):
        bell.hear(step, {"x": value})
    assert bell.ringing == [Ring(2, "x", 3.0, "do this")]
    bell.hear(4, {"x": 0.5})
    assert bell.ringing == []


def test_a_resumed_run_remembers_the_highest_level_of_before() -> None:
    falling = Decline("rank", "do this", window=3)
    records = [
        {"step": step, "train/loss": 1.0, "train/rank": 20.0 if step < 8 else 8.0, "seconds": 1.0}
        for step in range(1, 12)
    ]
    whole = AlarmBell([], quiet_steps=0, declines=[falling])
    expected = hear_again(whole, records)
    assert len(expected) == 1
    resumed = AlarmBell([], quiet_steps=0, declines=[falling])
    hear_again(resumed, records[:7])
    assert hear_again(resumed, records[7:]) == expected
    assert hear_again(AlarmBell([], quiet_steps=0, declines=[falling]), records[7:]) == []
