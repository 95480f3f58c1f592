"""Tables of alarms, from the code that rings them."""

from docs.site.markdown import code, table
from docs.site.method_pages import bounds, names, title
from ssl_zoo.method import METHODS, Alarm
from ssl_zoo.training.alarms import COMMON_ALARMS, DECLINES, SPEED_ALARMS


def common_alarms() -> str:
    """Returns the alarms that every method has."""
    rows = [_row(alarm) for alarm in COMMON_ALARMS]
    for decline in DECLINES:
        when = f"below {decline.share:g} of its highest level, both as medians of {decline.window} values"
        rows.append([code(decline.metric), when, decline.advice])
    return table(["metric", "rings", "what it means, and what to do"], rows)


def speed_alarms() -> str:
    """Returns the alarms of slow runs, which only the doctor tells."""
    return table(
        ["metric", "rings", "what it means, and what to do"],
        [_row(alarm) for alarm in SPEED_ALARMS],
    )


def method_alarms() -> str:
    """Returns the alarms of each method; methods with the same alarm share a row."""
    owners: dict[Alarm, list[str]] = {}
    for name in names():
        for alarm in METHODS[name].alarms:
            owners.setdefault(alarm, []).append(f"[{title(name)}](../../methods/{name})")
    rows = [[", ".join(who), *_row(alarm)] for alarm, who in owners.items()]
    return table(["method", "metric", "rings", "what it means, and what to do"], rows)


def _row(alarm: Alarm) -> list[str]:
    when = bounds(alarm.below, alarm.above, alarm.above_late)
    return [code(alarm.metric), f"{when}, {alarm.patience} logged values in a row", alarm.advice]
