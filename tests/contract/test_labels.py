"""Labels reach only who asks for them, for every registered method."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from ssl_zoo.data.digits import DigitsAffine
from ssl_zoo.data.loader import LoadedBatch
from ssl_zoo.method import METHODS, Batch
from ssl_zoo.runs.config import RunConfig
from ssl_zoo.training import build
from tests.small import fast_config

DEVICE = torch.device("cpu")
BLIND = [name for name in METHODS if not METHODS[name].needs_labels]
SEEING = [name for name in METHODS if METHODS[name].needs_labels]


class SealedDigits(DigitsAffine):
    """Digits whose labels are not to be read."""

    @property
    def labels(self) -> Tensor:
        """Raises AssertionError."""
        raise AssertionError("labels were read")

    @labels.setter
    def labels(self, value: Tensor | None) -> None:
        pass


def sealed(name: str) -> tuple[RunConfig, SealedDigits]:
    return fast_config(name), SealedDigits(DigitsAffine.Config(), split="train")


def batches(config: RunConfig, dataset: DigitsAffine) -> Iterator[LoadedBatch | Batch]:
    """Yields a batch of each way in which a method may come by images."""
    loader = build.build_loader(config, dataset, DEVICE)
    yield next(loader.epoch(0))
    yield next(loader.plain_epoch(0))
    epoch = build.LoadedEpoch(loader, 0, config, DEVICE)
    yield next(epoch.views())
    yield next(epoch.images())


@pytest.mark.parametrize("name", BLIND)
def test_labels_are_never_read_for_a_method_that_does_not_ask(name: str) -> None:
    assert [batch.labels for batch in batches(*sealed(name))] == [None] * 4


@pytest.mark.parametrize("name", BLIND)
def test_a_method_that_does_not_ask_is_built_without_reading_labels(name: str) -> None:
    config, dataset = sealed(name)
    assert build.build_method(config, dataset, 44, DEVICE).needs_labels is False


@pytest.mark.parametrize("name", SEEING)
def test_a_method_that_asks_gets_the_labels_of_its_images(name: str) -> None:
    dataset = DigitsAffine(DigitsAffine.Config(), split="train")
    assert dataset.labels is not None
    for batch in batches(fast_config(name), dataset):
        assert batch.labels is not None
        assert torch.equal(batch.labels, dataset.labels[batch.index])


@pytest.mark.parametrize("name", SEEING)
def test_labels_are_split_with_their_images(name: str) -> None:
    dataset = DigitsAffine(DigitsAffine.Config(), split="train")
    config = fast_config(name)
    loader = build.build_loader(config, dataset, DEVICE)
    whole = next(build.LoadedEpoch(loader, 0, config, DEVICE).views())
    assert dataset.labels is not None
    for part in build.split_batch(whole, 4):
        assert part.labels is not None
        assert torch.equal(part.labels, dataset.labels[part.index])
