"""Budgets of a comparison: the length of each run, and how long all will take."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from ssl_zoo.comparison.contenders import Contender, is_trained_run, settings_of, split_overrides
from ssl_zoo.comparison.request import ComparisonRequest
from ssl_zoo.errors import UserError
from ssl_zoo.method import METHODS
from ssl_zoo.planning.budget import read_budget, time_text
from ssl_zoo.planning.fit import expected_seconds, fit_length
from ssl_zoo.planning.kept import known_pace, shared_budget
from ssl_zoo.planning.rehearsal import Pace
from ssl_zoo.runs.config import RunConfig
from ssl_zoo.runs.recipes import PHOTOS_RECIPE, data_of, recipe_for

logger = logging.getLogger(__name__)


def within_budget(request: ComparisonRequest) -> Callable[[str, list[str]], RunConfig]:
    """Returns a function that gives a contender, by name and overrides, the length that a budget allows.

    Time is shared equally by all runs; the other budgets are for each run. Methods on a folder of images
    that are given without a recipe are planned for it.

    Raises:
        UserError: the budget or a setting is wrong.
    """
    names, recipe = request.methods, request.recipe
    budget, folder = read_budget(request.budget or ""), Path(request.output)
    for_all, for_one = split_overrides(names, request.overrides)
    trained = [name for name in dict.fromkeys(names) if not is_trained_run(name)]
    for one in (*for_all, *(one for name in names for one in for_one[name])):
        if one.partition("=")[0].strip() in ("epochs", "steps"):
            raise UserError(
                f"--budget sets the length of each run, and so does {one}; leave one of them out"
            )
    for name in names:
        if name not in trained:
            logger.warning("'%s' is already trained: the budget does not hold for it", name)
    if budget.unit == "seconds":
        learning = [name for name in trained if _trains(name, recipe, for_all)]
        n_runs = max(1, len(learning) * request.seeds)
        budget = replace(budget, amount=budget.amount / n_runs)
    data = data_of(for_all)
    plans = None
    if isinstance(data, str) and recipe is None and recipe_for(for_all) == PHOTOS_RECIPE:
        plans = shared_budget(data, budget, folder=folder)

    def planned(name: str, own: list[str]) -> RunConfig:
        if plans is not None and name in METHODS and METHODS[name].trains:
            return plans(name, own)
        config = settings_of(name, own, recipe=recipe)
        if not METHODS[config.method.name].trains:
            return config
        seed = config.seed
        first = config.model_copy(update={"seed": 0})
        found = fit_length(first, budget, known_pace(first, folder), overrides=own)
        return found.model_copy(update={"seed": seed})

    return planned


def say_expected(paces: Iterable[tuple[Contender, Pace | None]], folder: Path) -> None:
    """Logs how long the runs take that are not trained yet, one line for each contender, and in all."""
    seconds, n_runs = 0.0, 0
    for one, pace in paces:
        if pace is None:
            continue
        left = [each for each in one.configs if not one.run_folder(each, folder).is_complete]
        if not left:
            continue
        config = left[0]
        each = expected_seconds(config, pace)
        steps = config.total_steps(pace.steps_per_epoch)
        images = steps * config.global_batch_size
        seconds, n_runs = seconds + each * len(left), n_runs + len(left)
        logger.info(
            "%s: %s steps (%.4g epochs, %s images, %.3g FLOPs), about %s%s",
            one.name,
            f"{steps:,}",
            steps / pace.steps_per_epoch,
            f"{images:,}",
            steps * pace.flops,
            time_text(each),
            f" each, {len(left)} runs" if len(left) > 1 else "",
        )
    if n_runs:
        logger.info("%d runs to train, about %s one after the other", n_runs, time_text(seconds))


def _trains(name: str, recipe: str | None, overrides: list[str]) -> bool:
    if name.partition("@")[0] in METHODS:
        return METHODS[name.partition("@")[0]].trains
    config = settings_of(name, overrides, recipe=recipe)
    return METHODS[config.method.name].trains
