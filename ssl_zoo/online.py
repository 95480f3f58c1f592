"""Scores during training: the same evaluators as offline, on the backbone as it stands."""

import logging

import torch

from ssl_zoo.data.base import Dataset
from ssl_zoo.loading import Opened
from ssl_zoo.method import Method
from ssl_zoo.registries import DATASETS, EVALUATORS
from ssl_zoo.run_config import RunConfig
from ssl_zoo.sources import FeatureSource, score

logger = logging.getLogger(__name__)


class OnlineEvaluator:
    """Evaluates every so often; changes neither weights nor random states.

    Args:
        config: the run.
        steps_per_epoch: turns epochs into steps.
        device: where features are computed.
        train: the training images.
    """

    def __init__(
        self, config: RunConfig, steps_per_epoch: int, device: torch.device, train: Dataset
    ) -> None:
        self._config, self._device = config, device
        self._every = config.evaluation.every.steps(steps_per_epoch)
        self._splits: tuple[Dataset, Dataset] | None = None
        if self._every and config.evaluation.evaluators:
            if train.labels is None:
                logger.warning(
                    "data '%s' has no labels: no scores during training", config.data.name
                )
                self._every = 0
            else:
                self._splits = train, DATASETS.build(config.data, split="test")

    def is_due(self, step: int, *, last: bool) -> bool:
        """Says whether to evaluate after this many steps."""
        return self._splits is not None and (last or step % self._every == 0)

    def evaluate(self, method: Method) -> list[tuple[str, dict[str, float]]]:
        """Returns the name and the scores of each evaluator.

        Raises:
            UserError: an evaluator refuses the features; on all ranks.
        """
        assert self._splits is not None
        source = FeatureSource(
            Opened("the network in training", method.exported, {}, "", layers=method.layers),
            self._splits,
            image_size(self._config),
            self._device,
            precision=self._config.precision,
            num_workers=self._config.num_workers,
            progress=False,
        )
        return [
            (settings.name, score(source, EVALUATORS.build(settings), seed=0).values)
            for settings in self._config.evaluation.evaluators
        ]


def image_size(config: RunConfig) -> int:
    """Returns the height and width that images are evaluated at: that of the global crops."""
    from ssl_zoo.registries import AUGMENTATIONS

    counts: dict[int, int] = AUGMENTATIONS.build(config.augmentation).view_counts
    return next(iter(counts))
