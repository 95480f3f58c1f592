"""Which checkpoint is the best so far, and whether to stop: decided from scores, exact over resume.

A checkpoint is written before its weights are scored, and holds what was known until then. A resumed run
scores these weights again, so it decides as an uninterrupted one, wherever it was killed.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ssl_zoo import distributed
from ssl_zoo.errors import UserError
from ssl_zoo.runs.best import BestCheckpoint
from ssl_zoo.runs.config import RunConfig
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.runs.score_goal import ScoreGoal

Named = dict[str, float]
"""Scores by evaluator and name, such as `knn/top1@k=20`."""


@dataclass
class Watched:
    """The best value of a score so far.

    Attributes:
        step: step of the best value; 0 before the first.
        value: the best value.
        waited: number of evaluations since then.
    """

    step: int = 0
    value: float = 0.0
    waited: int = 0

    def note(self, goal: ScoreGoal, step: int, value: float, *, by: float = 0.0) -> None:
        """Takes the value of a step into account."""
        if not self.step or math.isnan(self.value) or goal.improves(value, self.value, by=by):
            self.step, self.value, self.waited = step, value, 0
        else:
            self.waited += 1


@dataclass
class Selection:
    """Follows the scores of a run.

    Attributes:
        config: settings of the run.
        folder: the run folder, in which `best.json` names the best checkpoint.
        first: headline scores of the network before training.
        last: those of the newest evaluation.
    """

    config: RunConfig
    folder: RunFolder
    first: Named = field(default_factory=dict)
    last: Named = field(default_factory=dict)
    _best: Watched = field(default_factory=Watched)
    _stop: Watched = field(default_factory=Watched)

    @property
    def best(self) -> BestCheckpoint | None:
        """The best checkpoint so far."""
        goal = self.config.checkpoint.best
        if goal is None or not self._best.step:
            return None
        return BestCheckpoint(goal.name, self._best.step, self._best.value)

    @property
    def why_stopped(self) -> str:
        """Why the run ends now, in words; empty if it does not."""
        rule = self.config.stop_early
        if rule is None or not self._stop.step or self._stop.waited < rule.patience:
            return ""
        return (
            f"{rule.score.name} has not improved on {self._stop.value:.1f} of step {self._stop.step} "
            f"in {rule.patience} evaluation{'s' * (rule.patience > 1)}"
        )

    def check(self, scores: Mapping[str, float]) -> None:
        """Checks that the settings name scores that this run measures.

        Raises:
            UserError: they name another one.
        """
        if self.config.checkpoint.best is not None:
            self.config.checkpoint.best.check("checkpoint.best", scores)
        if self.config.stop_early is not None:
            self.config.stop_early.score.check("stop_early.score", scores)

    def note(self, step: int, scores: Named, headlines: Named) -> None:
        """Takes the scores of the checkpoint of a step into account; all ranks must call it.

        Raises:
            UserError: `best.json` cannot be written.
        """
        self.last = dict(headlines)
        goal, rule = self.config.checkpoint.best, self.config.stop_early
        if rule is not None:
            value = scores[rule.score.name]
            self._stop.note(rule.score, step, value, by=rule.min_delta)
        if goal is not None:
            self._best.note(goal, step, scores[goal.name])
            distributed.on_main(self._write)

    def state(self) -> dict[str, Any]:
        """Returns what a checkpoint keeps."""
        rule = self.config.stop_early
        goals = {"best": self.config.checkpoint.best, "stop": rule.score if rule else None}
        return {
            "first": self.first,
            "goals": {name: str(goal) for name, goal in goals.items()},
            "best": asdict(self._best),
            "stop": asdict(self._stop),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Restores the state of a checkpoint; scores that the settings no longer name are forgotten."""
        self.first = dict(state.get("first", {}))
        goals = self.state()["goals"]
        for name, watched in (("best", self._best), ("stop", self._stop)):
            if state.get("goals", {}).get(name) == goals[name]:
                watched.__dict__.update(state[name])

    def _write(self) -> None:
        if self.best is None:
            return
        self.folder.ownership.check()
        try:
            self.best.write(self.folder.path)
        except OSError as error:
            raise UserError(
                f"'{self.folder.path}/best.json' cannot be written: {error.strerror}"
            ) from None
