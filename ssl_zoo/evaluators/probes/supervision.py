"""Trains a linear layer, or a network and a linear layer, on labelled images, and tests it."""

import copy
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ssl_zoo import distributed
from ssl_zoo.augmentations.base import AUGMENTATIONS, Augmentation
from ssl_zoo.augmentations.evaluation import PHOTO_MARGIN, normalize
from ssl_zoo.data.base import Dataset
from ssl_zoo.data.loader import LoadedBatch, Sampling, ViewLoader
from ssl_zoo.data.plain_batches import evaluation_batches
from ssl_zoo.data.workers import granted
from ssl_zoo.errors import UserError
from ssl_zoo.evaluators import scoring
from ssl_zoo.evaluators.base import Subject

logger = logging.getLogger(__name__)

LR_BATCH = 256
"""Batch size that learning rates are given for; they scale linearly with the batch size."""


@dataclass(frozen=True)
class Recipe:
    """Settings of the training.

    Attributes:
        epochs: passes over the images.
        global_batch_size: images per step over all ranks; all images if there are fewer.
        head_lr: learning rate of the linear layer at a batch size of `LR_BATCH`.
        backbone_lr: learning rate of the backbone; None keeps it frozen and in eval mode.
        momentum: momentum of SGD.
        weight_decay: weight decay of SGD.
        factor: learning rate of an epoch relative to that of the first.
        head_std: standard deviation of the linear layer's initial weights, with bias 0; None for
            torch's default initialisation.
        min_scale: smallest fraction of an image's area in a crop.
        flip: probability that a view is mirrored.
    """

    epochs: int
    global_batch_size: int
    head_lr: float
    backbone_lr: float | None
    momentum: float
    weight_decay: float
    factor: Callable[[int], float]
    head_std: float | None
    min_scale: float
    flip: float


@dataclass(frozen=True)
class Tested:
    """The result of the training.

    Attributes:
        ranks: number of classes ahead of the true one for each test image, `(N,)`; see `scoring.ranks`.
        index: position of each image in the test split, `(N,)`; without images that cannot be
            decoded.
        losses: mean cross-entropy of each epoch.
        steps: total number of SGD steps.
        network: what was trained, in eval mode.
    """

    ranks: NDArray[np.int64]
    index: NDArray[np.int64]
    losses: list[float]
    steps: int
    network: "TrainedNetwork"


class TrainedNetwork(nn.Module):
    """A backbone, frozen or not, with a linear layer."""

    def __init__(self, backbone: nn.Module, head: nn.Linear, frozen: bool) -> None:
        super().__init__()
        # Parameters that the backbone keeps fixed, such as positions, stay fixed.
        self.backbone = backbone.requires_grad_(False) if frozen else backbone
        self.head, self._frozen = head, frozen

    def train(self, mode: bool = True) -> "TrainedNetwork":
        """Sets the mode; a frozen backbone stays in eval mode."""
        super().train(mode)
        self.backbone.train(mode and not self._frozen)
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Returns scores `(B, K)` of normalised images."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._frozen):
            features = self.backbone(images.contiguous(memory_format=torch.channels_last))
        scores: Tensor = self.head(features)
        return scores


def train_and_test(
    subject: Subject, train: Dataset, truth: NDArray[np.int64], recipe: Recipe, *, seed: int
) -> Tested:
    """Trains a copy of the subject's network and tests its final state; all ranks must call it.

    Args:
        subject: the network and the test images; it is not changed.
        train: images with labels from 0 to K - 1.
        truth: position of each test image's class among these, `(N,)`; -1 if it is none of them.
        seed: seed of the initial weights, the order and the views; equal on all ranks.

    Raises:
        UserError: images cannot be read, the batch cannot be split over the ranks, or the loss
            becomes non-finite.
    """
    assert train.labels is not None
    batch_size = min(recipe.global_batch_size, len(train))
    if batch_size % distributed.world_size():
        raise UserError.everywhere(
            f"a batch of {batch_size} images cannot be split over {distributed.world_size()} "
            "processes; set global_batch_size to a multiple, or use one process"
        )
    loader = ViewLoader(
        train,
        _augmentation(recipe, subject.image_size),
        Sampling(
            batch_size,
            rank=distributed.rank(),
            world_size=distributed.world_size(),
            seed=seed,
        ),
        grant=granted(subject.num_workers),
        device=subject.device,
        with_labels=True,
    )
    devices = [subject.device] if subject.device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.enable_grad():
        torch.manual_seed(seed)  # also seeds dropout in the backbone
        head = _head(subject.backbone.feature_dim, int(train.labels.max()) + 1, recipe)
        network = TrainedNetwork(
            copy.deepcopy(subject.backbone), head, recipe.backbone_lr is None
        ).to(subject.device)
        losses = _train(network, loader, recipe, batch_size / LR_BATCH)
        index, found = _test(network.eval(), subject, truth)
    return Tested(found, index, losses, recipe.epochs * loader.steps_per_epoch, network)


def _head(n_features: int, n_classes: int, recipe: Recipe) -> nn.Linear:
    head = nn.Linear(n_features, n_classes)
    if recipe.head_std is not None:
        nn.init.normal_(head.weight, std=recipe.head_std)
        nn.init.zeros_(head.bias)
    return head


def _augmentation(recipe: Recipe, size: int) -> Augmentation[object]:
    """Returns an augmentation with only a random crop and flip."""
    settings = {
        "name": "multicrop",
        "crops": [{"size": size, "count": 1, "scale": (recipe.min_scale, 1.0)}],
        "flip": recipe.flip,
        "color_jitter": {"probability": 0},
        "blur": {"probability": 0},
        "grayscale": 0,
    }
    return AUGMENTATIONS.build(settings)


def _train(
    network: TrainedNetwork, loader: ViewLoader, recipe: Recipe, lr_scale: float
) -> list[float]:
    parts, rates = [list(network.head.parameters())], [recipe.head_lr * lr_scale]
    inner = [p for p in network.backbone.parameters() if p.requires_grad]
    if recipe.backbone_lr is not None and inner:
        parts, rates = [*parts, inner], [*rates, recipe.backbone_lr * lr_scale]
    optimizer = torch.optim.SGD(
        [{"params": part} for part in parts],
        lr=recipe.head_lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )
    network.train()
    with closing(loader.stream(0, recipe.epochs * loader.steps_per_epoch)) as batches:
        losses = _losses(network, loader, batches, recipe, optimizer, rates)
    if losses[-1] > math.log(network.head.out_features):
        logger.warning(
            "the last loss, %.2f, is above chance level, %.2f; lower the learning rate",
            losses[-1], math.log(network.head.out_features),
        )  # fmt: skip
    return losses


def _losses(
    network: TrainedNetwork,
    loader: ViewLoader,
    batches: Iterator[LoadedBatch],
    recipe: Recipe,
    optimizer: torch.optim.Optimizer,
    rates: list[float],
) -> list[float]:
    """Trains, and returns the mean loss of each epoch."""
    losses = list[float]()
    for epoch in range(recipe.epochs):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * recipe.factor(epoch)
        losses.append(_epoch(network, loader, islice(batches, loader.steps_per_epoch), optimizer))
        if not math.isfinite(losses[-1]):
            raise UserError.everywhere(
                f"the loss is {losses[-1]} in epoch {epoch + 1} of {recipe.epochs}; lower the "
                "learning rate"
            )
        if (epoch + 1) % max(1, recipe.epochs // 10) == 0:
            logger.info("epoch %d of %d: loss %.4f", epoch + 1, recipe.epochs, losses[-1])
    return losses


def _epoch(
    network: TrainedNetwork,
    loader: ViewLoader,
    batches: Iterator[LoadedBatch],
    optimizer: torch.optim.Optimizer,
) -> float:
    """Returns the mean loss over steps and ranks."""
    mean, std = loader.dataset.config.mean, loader.dataset.config.std
    total = torch.zeros((), dtype=torch.float64, device=loader.device)
    for batch in _agreed(batches):
        assert batch.labels is not None
        images = normalize(batch.views[0][0], mean, std)
        loss = functional.cross_entropy(network(images), batch.labels.to(loader.device))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        _average_gradients(network)
        optimizer.step()
        total += loss.detach()
    distributed.all_reduce(total)
    return float(total) / (loader.steps_per_epoch * distributed.world_size())


def _agreed(batches: Iterator[LoadedBatch]) -> Iterator[LoadedBatch]:
    """Yields batches; a read error on one rank is raised on all."""
    error = None
    while True:
        batch = None
        try:
            batch = next(batches, None)
        except UserError as problem:
            error = str(problem)
        distributed.raise_any(error)
        if batch is None:
            return
        yield batch


def _average_gradients(network: nn.Module) -> None:
    """Averages gradients over ranks in one collective."""
    if distributed.world_size() == 1:
        return
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    joined = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(joined).div_(distributed.world_size())
    parts = torch.split(joined, [gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


@torch.no_grad()
def _test(
    network: TrainedNetwork, subject: Subject, truth: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns positions and ranks of decodable test images; each process tests a part."""
    test = subject.test
    share = math.ceil(len(test) / distributed.world_size())
    own = torch.arange(len(test))[distributed.rank() * share :][:share]
    index, found = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    batches = evaluation_batches(
        test,
        batch_size=LR_BATCH,
        size=subject.image_size,
        # As for features: a margin for photographs, none for small images, which are used whole.
        resize=None if test.in_memory else round(subject.image_size * PHOTO_MARGIN),
        num_workers=subject.num_workers,
        indices=own,
    )
    error = None
    try:
        for views, places in batches:
            images = normalize(views.to(subject.device), test.config.mean, test.config.std)
            index.append(places.numpy())
            found.append(scoring.ranks(network(images), truth[places.numpy()]))
    except UserError as problem:
        error = str(problem)
    distributed.raise_any(error)
    parts = distributed.all_gather_object((np.concatenate(index), np.concatenate(found)))
    places_of_all, ranks_of_all = (np.concatenate(part) for part in zip(*parts, strict=True))
    return places_of_all, ranks_of_all
