"""Plans and timed steps that are kept in a folder, so that the same command gets the same settings again."""

import json
import logging
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from ssl_zoo.config import digest
from ssl_zoo.files import write_text
from ssl_zoo.planning.budget import Budget, time_text
from ssl_zoo.planning.fit import fit_length
from ssl_zoo.planning.plan import plan_run
from ssl_zoo.planning.rehearsal import Pace, rehearse
from ssl_zoo.runs.config import RunConfig, run_config

logger = logging.getLogger(__name__)

PLANS = "plans"
"""Name of the folder of plans in that of a comparison."""
COSTS = "costs"
"""Name of the folder of timed steps in that of a comparison."""
_LENGTH = ("epochs", "steps", "seed", "schedule", "stop_early")
"""Settings on which the cost of a step does not depend."""


def known_pace(config: RunConfig, folder: Path) -> Pace:
    """Returns how long steps of a run take, and their arithmetic; times them if that is not known yet.

    Args:
        config: the run; its length, schedule and seed do not matter.
        folder: folder of the comparison.

    Raises:
        UserError: the run cannot be built, or its loss is not finite.
    """
    settings = {key: value for key, value in config.identity().items() if key not in _LENGTH}
    # Durations follow the length of a run.
    text = re.sub(r'"[\d.]+ (epoch|step)s?"', '""', json.dumps(settings, sort_keys=True))
    file = folder / COSTS / f"{config.method.name}-{digest(text)}.json"
    try:
        return Pace(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        logger.info("timing a few steps of %s", config.method.name)
    pace = rehearse(config)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(asdict(pace), indent=1) + "\n")
    return pace


def shared_budget(
    data: str, budget: Budget, *, folder: Path
) -> Callable[[str, list[str]], RunConfig]:
    """Returns a function that plans a method on somebody's own images within a budget.

    It takes a method and overrides. Plans are written to `folder/plans` and read from there when the
    same plan is needed again, as steps that are timed once more would give other settings.

    Args:
        data: folder or table of images.
        budget: what a run may take.
        folder: folder of the comparison.
    """

    def planned(method: str, overrides: list[str]) -> RunConfig:
        seeds = [text for text in overrides if text.startswith("seed=")]
        others = [text for text in overrides if text not in seeds and not _is_data(text)]
        key = digest([data, budget.unit, budget.amount, others])
        file = folder / PLANS / f"{method}-{key}.yaml"
        if not file.is_file():
            text = _plan(data, method, budget, others, folder)
            file.parent.mkdir(parents=True, exist_ok=True)
            write_text(file, text)
        return run_config(file=file, overrides=seeds)

    return planned


def _plan(data: str, method: str, budget: Budget, overrides: list[str], folder: Path) -> str:
    """Returns the settings of a plan, with reasons."""
    if budget.unit == "seconds":
        logger.info("planning %s for %s", method, time_text(budget.amount))
        found = plan_run(data, method, budget=f"{budget.amount:.2f}s", overrides=overrides)
    else:
        found = plan_run(data, method, budget=None, overrides=overrides)
        pace = known_pace(found.config, folder)
        fitted = fit_length(found.config, budget, pace, overrides=overrides)
        found = found.of_length(fitted, f"what {budget.text} allows")
    logger.info("%s", found.summary())
    return found.text()


def _is_data(text: str) -> bool:
    return text.partition("=")[0].strip() == "data"
