"""Plans that are kept in a folder, so that the same command gets the same settings again."""

import logging
from collections.abc import Callable
from pathlib import Path

from ssl_zoo.config import digest
from ssl_zoo.files import write_text
from ssl_zoo.planning.budget import seconds_of, time_text
from ssl_zoo.planning.plan import plan_run
from ssl_zoo.runs.config import RunConfig, run_config

logger = logging.getLogger(__name__)

PLANS = "plans"
"""Name of the folder of plans in that of a comparison."""


def shared_budget(
    data: str, budget: str, *, runs: int, folder: Path
) -> Callable[[str, list[str]], RunConfig]:
    """Returns a function that plans a method within its share of a budget.

    It takes a method and overrides. Plans are written to `folder/plans` and read from there when the
    same plan is needed again, as steps that are timed once more would give other settings.

    Args:
        data: folder or table of images.
        budget: time for all runs, such as `2h`.
        runs: number of runs that share it equally.
        folder: folder of the comparison.

    Raises:
        UserError: the budget is not a time.
    """
    share = seconds_of(budget) / max(runs, 1)

    def planned(method: str, overrides: list[str]) -> RunConfig:
        seeds = [text for text in overrides if text.startswith("seed=")]
        others = [text for text in overrides if text not in seeds and not _is_data(text)]
        file = folder / PLANS / f"{method}-{digest([data, share, others])}.yaml"
        if not file.is_file():
            logger.info("planning %s for %s", method, time_text(share))
            found = plan_run(data, method, budget=f"{share:.0f}s", overrides=others)
            logger.info("%s", found.summary())
            file.parent.mkdir(parents=True, exist_ok=True)
            write_text(file, found.text())
        return run_config(file=file, overrides=seeds)

    return planned


def _is_data(text: str) -> bool:
    return text.partition("=")[0].strip() == "data"
