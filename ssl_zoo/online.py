"""Scores during training: the same evaluators as offline, on the backbone as it stands."""

import logging
from collections.abc import Iterator

import torch

from ssl_zoo import distributed
from ssl_zoo.backbones.base import Backbone
from ssl_zoo.data.base import Dataset
from ssl_zoo.features import extract
from ssl_zoo.registries import DATASETS, EVALUATORS
from ssl_zoo.run_config import RunConfig

logger = logging.getLogger(__name__)


class OnlineEvaluator:
    """Evaluates every so often; changes neither weights nor random states.

    Args:
        config: the run.
        steps_per_epoch: turns epochs into steps.
        device: where features are computed.
    """

    def __init__(self, config: RunConfig, steps_per_epoch: int, device: torch.device) -> None:
        self._config, self._device = config, device
        self._every = config.evaluation.every.steps(steps_per_epoch)
        self._splits: tuple[Dataset, Dataset] | None = None
        if self._every and config.evaluation.evaluators:
            train: Dataset = DATASETS.build(config.data, split="train")
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

    def evaluate(self, backbone: Backbone) -> Iterator[tuple[str, dict[str, float]]]:
        """Yields the name and the scores of each evaluator, on rank 0; nothing on others."""
        assert self._splits is not None
        size = image_size(self._config)
        train, test = (
            extract(
                backbone,
                split,
                image_size=size,
                device=self._device,
                precision=self._config.precision,
                num_workers=self._config.num_workers,
                progress=False,
            )
            for split in self._splits
        )
        if distributed.is_main():
            for settings in self._config.evaluation.evaluators:
                scores = EVALUATORS.build(settings).evaluate(train, test)
                yield settings.name, scores.values
        distributed.barrier()


def image_size(config: RunConfig) -> int:
    """Returns the height and width that images are evaluated at: that of the global crops."""
    from ssl_zoo.registries import AUGMENTATIONS

    counts: dict[int, int] = AUGMENTATIONS.build(config.augmentation).view_counts
    return next(iter(counts))
