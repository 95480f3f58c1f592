"""Settings that differ between runs."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ssl_zoo.plain_text import printable
from ssl_zoo.report.html_page.sources import ShownRun
from ssl_zoo.runs.config import OPERATIONAL


@dataclass(frozen=True)
class SettingRow:
    """A setting that differs, and its value in each run; empty where a run has none."""

    setting: str
    values: tuple[str, ...]


def setting_differences(runs: Sequence[ShownRun]) -> list[SettingRow]:
    """Returns the settings that are not equal in all runs, except those that do not affect weights."""
    flat = [dict(_flattened(run.settings)) for run in runs]
    found = []
    for name in dict.fromkeys(name for settings in flat for name in settings):
        values = tuple(settings.get(name, "") for settings in flat)
        if len(set(values)) > 1 and name.partition(".")[0] not in OPERATIONAL:
            found.append(SettingRow(name, values))
    return found


def _flattened(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yields `optimizer.lr` and the like with their values as text; `crops.0.size` for items of lists."""
    for key, value in settings.items():
        name = printable(f"{prefix}{key}")
        if isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
            value = {str(place): one for place, one in enumerate(value)}
        if isinstance(value, Mapping) and value:
            yield from _flattened(value, f"{name}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            yield name, printable(text)
