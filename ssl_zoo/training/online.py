"""Scores during training, with the same evaluators as afterwards, on the current backbone."""

import logging

import torch

from ssl_zoo.data.base import DATASETS, Dataset
from ssl_zoo.evaluation.config import EvaluationConfig
from ssl_zoo.evaluation.data import labelled
from ssl_zoo.evaluation.source import FeatureSource, score
from ssl_zoo.evaluators.base import EVALUATORS, Scores
from ssl_zoo.method import Method
from ssl_zoo.runs.config import RunConfig
from ssl_zoo.training.selection import Named
from ssl_zoo.weights.facts import WeightFacts
from ssl_zoo.weights.open import Opened

logger = logging.getLogger(__name__)


class OnlineEvaluator:
    """Evaluates at intervals without changing weights or random states.

    Args:
        config: settings of the run.
        steps_per_epoch: converts epochs to steps.
        device: device of the network.
        train: the training images.
        num_workers: loader processes, for images read from files.

    Attributes:
        datasets: the images of both splits; empty without scores.
    """

    def __init__(
        self,
        config: RunConfig,
        steps_per_epoch: int,
        device: torch.device,
        train: Dataset,
        *,
        num_workers: int,
    ) -> None:
        self._config, self._device = config, device
        self._every = config.evaluation.every.steps(steps_per_epoch)
        self._splits: tuple[Dataset, Dataset] | None = None
        self.datasets: list[Dataset] = []
        if self._every and config.evaluation.evaluators:
            self._request = EvaluationConfig(
                evaluators=tuple(config.evaluation.evaluators),
                precision=config.precision,
                num_workers=num_workers,
            )
            if train.labels is None:
                self._without_labels()
            if self._every:
                test = DATASETS.build(config.data, split="test")
                self._splits = labelled(train), labelled(test)
                self.datasets = [train, test]

    @property
    def is_on(self) -> bool:
        """Whether there are scores during training."""
        return self._splits is not None

    def is_due(self, step: int, *, last: bool) -> bool:
        """Returns whether to evaluate after this many steps."""
        return self._splits is not None and (last or step % self._every == 0)

    def evaluate(self, method: Method) -> list[tuple[str, Scores]]:
        """Returns the name and the scores of each evaluator.

        Raises:
            UserError: an evaluator refuses the features; raised on all ranks.
        """
        assert self._splits is not None
        facts = WeightFacts(backbone=self._config.backbone.model_dump(mode="json"))
        source = FeatureSource(
            Opened("the network in training", method.exported, facts, "", layers=method.layers),
            self._splits,
            self._request,
            self._config.image_size,
            self._device,
            progress=False,
        )
        return [
            (label, score(source, EVALUATORS.build(settings), seed=self._request.seed))
            for label, settings in self._request.labelled().items()
        ]

    def named(self, found: list[tuple[str, Scores]]) -> tuple[Named, Named]:
        """Returns all scores by full name, and the headlines of evaluators that use labels."""
        every = {f"{key}/{name}": value for key, s in found for name, value in s.values.items()}
        headlines = [f"{key}/{s.headline}" for key, s in found if self.needs_labels(key)]
        return every, {name: every[name] for name in headlines if name in every}

    def needs_labels(self, label: str) -> bool:
        """Returns whether an evaluator compares features with labels."""
        return bool(EVALUATORS.build(self._request.labelled()[label]).labelled)

    def _without_labels(self) -> None:
        """Leaves only evaluators that need no labels."""
        every = self._request.evaluators
        left = tuple(one for one in every if not EVALUATORS.build(one).labelled)
        if left:
            self._request = self._request.model_copy(update={"evaluators": left})
        else:
            self._every = 0
        if len(left) < len(every):
            logger.warning(
                "data '%s' has no labels; %s during training",
                self._config.data.name,
                f"only {', '.join(one.name for one in left)} is scored"
                if left
                else "there are no scores, but evaluation.evaluators=[health] needs none",
            )
