"""Trains a linear layer, or a network with it, on labelled images, and tests it."""

import copy
import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ssl_zoo import distributed
from ssl_zoo.augmentations.base import AUGMENTATIONS, Augmentation
from ssl_zoo.augmentations.evaluation import PHOTO_MARGIN, normalize
from ssl_zoo.data.base import Dataset
from ssl_zoo.data.loader import LoadedBatch, Sampling, ViewLoader, evaluation_batches
from ssl_zoo.errors import UserError
from ssl_zoo.evaluators import scoring
from ssl_zoo.evaluators.base import Subject

logger = logging.getLogger(__name__)

LR_BATCH = 256
"""Images of a step that learning rates are given for; they grow with the batch."""


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        epochs: passes over the images.
        global_batch_size: images of a step over all ranks; all of them where there are fewer.
        head_lr: learning rate of the linear layer at a batch of `LR_BATCH`.
        backbone_lr: of the backbone; None keeps it frozen and in eval mode.
        momentum: of SGD.
        weight_decay: of SGD.
        factor: learning rate at an epoch over that of the first.
        head_std: standard deviation of the first weights of the linear layer, whose bias starts
            at 0; None for torch's own draw.
        min_scale: smallest part of an image's area that a crop shows.
        flip: how often a view is mirrored.
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
    """What became of the training.

    Attributes:
        ranks: classes ahead of the true one for each test image, `(N,)`; see `scoring.ranks`.
        index: position of each of them in the test split, `(N,)`; without those that cannot be
            decoded.
        losses: mean cross-entropy of each epoch.
        steps: of SGD in all.
    """

    ranks: NDArray[np.int64]
    index: NDArray[np.int64]
    losses: list[float]
    steps: int


class _Classifier(nn.Module):
    """A backbone, frozen or not, with a linear layer."""

    def __init__(self, backbone: nn.Module, head: nn.Linear, frozen: bool) -> None:
        super().__init__()
        # What a backbone itself holds fixed, such as positions, stays so.
        self.backbone = backbone.requires_grad_(False) if frozen else backbone
        self.head, self._frozen = head, frozen

    def train(self, mode: bool = True) -> "_Classifier":
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
    """Trains on a copy of the subject's network and tests its last state; all ranks call it.

    Args:
        subject: the network and the test images; it stays as it is.
        train: images with labels from 0 to K - 1.
        truth: position of each test image's class among these, `(N,)`; -1 for one of no class.
        seed: of the first weights, the order and the views; equal on all ranks.

    Raises:
        UserError: images cannot be read, the batch cannot be split over the ranks, or the loss is
            no longer finite.
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
        num_workers=subject.num_workers,
        device=subject.device,
        with_labels=True,
    )
    devices = [subject.device] if subject.device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.enable_grad():
        torch.manual_seed(seed)  # also of what the backbone drops while it trains
        head = _head(subject.backbone.feature_dim, int(train.labels.max()) + 1, recipe)
        network = _Classifier(
            copy.deepcopy(subject.backbone), head, recipe.backbone_lr is None
        ).to(subject.device)
        losses = _train(network, loader, recipe, batch_size / LR_BATCH)
        index, found = _test(network.eval(), subject, truth)
    return Tested(found, index, losses, recipe.epochs * loader.steps_per_epoch)


def _head(n_features: int, n_classes: int, recipe: Recipe) -> nn.Linear:
    head = nn.Linear(n_features, n_classes)
    if recipe.head_std is not None:
        nn.init.normal_(head.weight, std=recipe.head_std)
        nn.init.zeros_(head.bias)
    return head


def _augmentation(recipe: Recipe, size: int) -> Augmentation[object]:
    """Returns a random crop and flip, and nothing else."""
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
    network: _Classifier, loader: ViewLoader, recipe: Recipe, lr_scale: float
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
    losses = []
    for epoch in range(recipe.epochs):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * recipe.factor(epoch)
        losses.append(_epoch(network, loader, optimizer, epoch))
        if not math.isfinite(losses[-1]):
            raise UserError.everywhere(
                f"the loss is {losses[-1]} in epoch {epoch + 1} of {recipe.epochs}; lower the "
                "learning rate"
            )
        if (epoch + 1) % max(1, recipe.epochs // 10) == 0:
            logger.info("epoch %d of %d: loss %.4f", epoch + 1, recipe.epochs, losses[-1])
    if losses[-1] > math.log(network.head.out_features):
        logger.warning(
            "the last loss, %.2f, is above %.2f, that of guessing; lower the learning rate",
            losses[-1], math.log(network.head.out_features),
        )  # fmt: skip
    return losses


def _epoch(
    network: _Classifier, loader: ViewLoader, optimizer: torch.optim.Optimizer, epoch: int
) -> float:
    """Returns the mean loss over steps and ranks."""
    mean, std = loader.dataset.config.mean, loader.dataset.config.std
    total = torch.zeros((), dtype=torch.float64, device=loader.device)
    for batch in _batches(loader, epoch):
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


def _batches(loader: ViewLoader, epoch: int) -> Iterator[LoadedBatch]:
    """Yields the batches of an epoch; what one rank cannot read is an error on all."""
    batches, error = iter(loader.epoch(epoch)), None
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
    """Averages over ranks, in one message."""
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
    network: _Classifier, subject: Subject, truth: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns positions and ranks of the test images that can be decoded; each rank tests a part."""
    test = subject.test
    share = math.ceil(len(test) / distributed.world_size())
    own = torch.arange(len(test))[distributed.rank() * share :][:share]
    index, found = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    batches = evaluation_batches(
        test,
        batch_size=LR_BATCH,
        size=subject.image_size,
        # As for features: a margin for photographs, none for small images that are seen whole.
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
