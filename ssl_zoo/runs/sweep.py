"""Points of a sweep: `method=swav,simclr` and `seed=0..2` make six."""

import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from ssl_zoo.config import parse_override, shown
from ssl_zoo.errors import UserError
from ssl_zoo.runs.config import RunConfig, run_config
from ssl_zoo.runs.places import default_folder, point_folder
from ssl_zoo.yaml_reading import is_cut, load_yaml

METHOD = "method"
MOST_POINTS = 10_000


def points(sweeps: Sequence[str]) -> list[dict[str, Any]]:
    """Returns all combinations of the values of `KEY=A,B` and `KEY=FIRST..LAST`; the last key varies
    fastest.

    Raises:
        UserError: an argument is not a sweep, a key occurs twice, or there are too many points.
    """
    axes: dict[str, list[Any]] = {}
    for text in sweeps:
        key, values = _axis(text)
        if key in axes:
            raise UserError(f"--sweep has '{key}' twice; write all its values in one, {key}=A,B")
        axes[key] = values
    found = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    if len(found) > MOST_POINTS:
        raise UserError(f"--sweep makes {len(found)} points; the maximum is {MOST_POINTS}")
    return found


def configs(
    method: str | None,
    sweeps: Sequence[str],
    *,
    file: str | Path | None = None,
    overrides: Sequence[str] = (),
) -> list[RunConfig]:
    """Resolves the run of each point; the key `method` sets METHOD[@RECIPE].

    Raises:
        UserError: a point is not a valid run, or two points are the same run.
    """
    runs: dict[str, RunConfig] = {}
    for point in points(sweeps):
        name = point.get(METHOD, method)
        if METHOD in point and method is not None:
            raise UserError(
                f"the method is '{method}' and --sweep sets others; leave out one of them"
            )
        texts = [f"{key}={json.dumps(v)}" for key, v in point.items() if key != METHOD]
        config = run_config(name, file=file, overrides=[*overrides, *texts])
        if config.digest() in runs:
            raise UserError(f"--sweep has the same run twice: {point}")
        runs[config.digest()] = config
    return list(runs.values())


def sweep_folders(configs: Sequence[RunConfig], output: str | Path | None) -> list[Path]:
    """Returns the run folder of each point, with a name that `compare --output` finds."""
    parent = Path(output) if output is not None else default_folder(configs[0]).parent
    return [point_folder(parent, config) for config in configs]


def _axis(text: str) -> tuple[str, list[Any]]:
    key, equals, values = text.partition("=")
    if not equals or not key.strip() or not values.strip():
        raise UserError(
            f"'{text}' is not a sweep; write KEY=A,B or KEY=FIRST..LAST, as in seed=0..2"
        )
    span = re.fullmatch(r"\s*(-?\d{1,18})\.\.(-?\d{1,18})\s*", values)
    if span:
        first, last = int(span[1]), int(span[2])
        if last < first:
            raise UserError(f"'{text}' runs backwards; write {key}={last}..{first}")
        if last - first >= MOST_POINTS:
            raise UserError(
                f"'{text}' makes {last - first + 1} points; {MOST_POINTS} are the most"
            )
        return key.strip(), list(range(first, last + 1))
    try:
        found = load_yaml(f"[{values}]")
        if is_cut(f"[{values}]"):
            raise yaml.YAMLError
    except yaml.YAMLError:
        parse_override(text)
        raise UserError(f"the values of '{key}' are not valid YAML: {shown(values)}") from None
    return key.strip(), list(found)
