"""`fit_length(config, budget)`: a run whose schedule ends exactly where its budget does."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ssl_zoo.config import Config
from ssl_zoo.errors import UserError
from ssl_zoo.planning.budget import Budget, time_text
from ssl_zoo.planning.plan import MOST_EPOCHS, USED
from ssl_zoo.planning.rehearsal import Pace
from ssl_zoo.runs.config import RunConfig, run_config
from ssl_zoo.schedule import Duration

LEAST_STEPS = 2
"""Smallest number of steps that a budget may allow."""


def fit_length(
    config: RunConfig, budget: Budget, pace: Pace, *, overrides: Iterable[str] = ()
) -> RunConfig:
    """Returns the run with the number of steps that a budget allows, and its schedule in proportion.

    Warm-up, ramps, frozen starts and the interval of scores keep their share of the run; settings that
    are given as overrides stay as they are.

    Args:
        config: the run, with the length of its recipe.
        budget: what the run may take; `seconds` are those of this run alone.
        pace: how long its steps take, and their arithmetic.
        overrides: what the user has set.

    Raises:
        UserError: the budget allows too few steps.
    """
    per_epoch = pace.steps_per_epoch
    before = config.total_steps(per_epoch)
    steps = _steps(config, budget, pace)
    if steps < LEAST_STEPS:
        cost = {
            "seconds": f"a step takes {pace.step:.2g} s, and the start {time_text(pace.start)}",
            "images": f"a step takes {config.global_batch_size} images",
            "flops": f"a step takes {pace.flops:.3g} FLOPs",
            "epochs": f"an epoch has {per_epoch} steps",
        }[budget.unit]
        share = f" (a share of {time_text(budget.amount)})" if budget.unit == "seconds" else ""
        raise UserError(
            f"a budget of {budget.text}{share} allows less than {LEAST_STEPS} steps of "
            f"'{config.method.name}': {cost}; raise --budget"
        )
    settings = config.model_dump(mode="json")
    kept = {text.partition("=")[0].strip() for text in overrides}
    scale = _Scale(before, steps, per_epoch, kept)
    for name in ("method", "schedule", "init"):
        part = scale.fitted(getattr(config, name), name)
        settings[name] = part.model_dump(mode="json") if part is not None else None
    every = scale.fitted(config.evaluation.every, "evaluation.every")
    if every.steps(per_epoch) < per_epoch <= config.evaluation.every.steps(per_epoch):
        every = Duration(value=min(per_epoch, steps), unit="steps")  # scores cost more than steps
    settings["evaluation"]["every"] = str(every)
    epochs = -(-steps // per_epoch)
    settings |= {"epochs": epochs, "steps": steps if steps < epochs * per_epoch else None}
    return run_config(settings=settings)


def expected_seconds(config: RunConfig, pace: Pace) -> float:
    """Returns about how long a run takes: its start, its steps and its scores."""
    steps = config.total_steps(pace.steps_per_epoch)
    every = config.evaluation.every.steps(pace.steps_per_epoch)
    n_scores = 2 + (-(-steps // every) if every else 0)  # before training, and of the comparison
    return pace.start + steps * pace.step + n_scores * _scoring(config, pace)


def _steps(config: RunConfig, budget: Budget, pace: Pace) -> int:
    if budget.unit == "images":
        return int(budget.amount // config.global_batch_size)
    if budget.unit == "epochs":
        return round(budget.amount * pace.steps_per_epoch)
    if budget.unit == "flops":
        if not pace.flops:
            raise UserError(
                f"the FLOPs of '{config.method.name}' cannot be counted; use a budget of images or time"
            )
        return int(budget.amount // pace.flops)
    length = config.total_steps(pace.steps_per_epoch) * pace.step
    fixed = expected_seconds(config, pace) - length  # the number of scores stays the same
    steps = int((USED * budget.amount - fixed) / pace.step)
    return min(steps, MOST_EPOCHS * pace.steps_per_epoch)


def _scoring(config: RunConfig, pace: Pace) -> float:
    """Returns about the seconds of a score.

    It runs each image forwards; training does that for each view, and backwards at twice the cost.
    """
    areas = [count * (size / config.image_size) ** 2 for size, count in config.view_counts.items()]
    return pace.steps_per_epoch * pace.step / (3 * sum(areas))


@dataclass(frozen=True)
class _Scale:
    """Fits durations to another length of a run.

    Attributes:
        before: steps of the run before.
        steps: steps of the run.
        per_epoch: steps of an epoch.
        kept: keys that the user has set; their durations stay as they are.
    """

    before: int
    steps: int
    per_epoch: int
    kept: set[str]

    def fitted(self, part: Any, key: str) -> Any:
        """Returns settings with their durations in proportion.

        Intervals inside methods stay, and so does what is longer than the run: it stands for always.
        """
        if key in self.kept or self.before == self.steps:
            return part
        if isinstance(part, Duration):
            long = part.steps(self.per_epoch)
            if not long or long >= self.before:
                return part
            return Duration(value=max(1, round(long * self.steps / self.before)), unit="steps")
        if isinstance(part, Config):
            update = {
                name: self.fitted(getattr(part, name), f"{key}.{name}")
                for name in type(part).model_fields
                if "every" not in name
            }
            return part.model_copy(update=update)
        return part
