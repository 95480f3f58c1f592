"""Accuracy after training with labels: of a linear layer only, or of the whole network.

Settings are those of SwAV's evaluations (Caron et al., 2020, arXiv:2006.09882, sections A.3 and
A.4; facebookresearch/swav at 06b1b7c, eval_linear.py and eval_semisup.py). Two things differ: the
last epoch is reported, not the best on the test split, and the labelled images are drawn with the
seed, not read from SimCLR's lists.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from ssl_zoo import distributed
from ssl_zoo.config import NamedConfig
from ssl_zoo.data.base import Dataset
from ssl_zoo.data.subset import Subset
from ssl_zoo.errors import UserError
from ssl_zoo.evaluators import scoring
from ssl_zoo.evaluators.base import EVALUATORS, ImageEvaluator, Scores, Subject
from ssl_zoo.evaluators.probes.supervision import (
    Recipe,
    Tested,
    TrainedNetwork,
    train_and_test,
)

VERSION = 1
"""Version of the rules below, increased when a change affects scores."""

FEW_LABELS = 0.05
"""Fraction of labels up to which fine-tuning uses the settings for 1 %."""


class _Settings(NamedConfig):
    global_batch_size: int = Field(default=256, ge=1, le=1_000_000)
    """Images per step over all processes; learning rates are given for 256 and scale linearly."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum of SGD."""
    min_scale: float = Field(default=0.08, gt=0, le=1)
    """Smallest fraction of an image's area in a training crop."""
    flip: float = Field(default=0.5, ge=0, le=1)
    """Probability that a training crop is mirrored; use 0 if left and right matter."""
    n_resamples: int = Field(default=2000, ge=100, le=1_000_000)
    """Number of bootstrap samples for the intervals; does not affect the scores."""


@dataclass(frozen=True)
class Finetuned:
    """A trained network and its scores.

    Attributes:
        network: backbone and linear layer.
        classes: label of each of its outputs, `(K,)`.
        scores: accuracies on the test split.
    """

    network: TrainedNetwork
    classes: NDArray[np.int64]
    scores: Scores


@EVALUATORS.register
class LinearSgd(ImageEvaluator):
    """Accuracy of a linear layer trained with SGD on frozen features of random crops.

    Scores are `top1` and, with more than 5 classes, `top5`, in percent, of the last epoch, with
    intervals bootstrapped over test images. The learning rate follows a half cosine, updated once
    per epoch; weights are initialised from N(0, 0.01).
    """

    class Config(_Settings):
        """Settings of the linear probe by SGD; defaults are SwAV's."""

        shorthand: ClassVar[str | None] = "epochs"

        name: Literal["linear_sgd"] = "linear_sgd"
        epochs: int = Field(default=100, ge=1, le=100_000)
        """Passes over the train split."""
        lr: float = Field(default=0.3, gt=0, le=1000)
        """Learning rate of the first epoch at a batch size of 256."""
        weight_decay: float = Field(default=1e-6, ge=0, le=10)
        """Multiple of the weights that is added to the gradient."""

    config: Config
    labelled = ("train", "test")

    def evaluate_images(self, subject: Subject, *, seed: int = 0) -> Scores:
        """Returns the accuracies on the test split; all ranks must call it.

        Raises:
            UserError: labels are missing, negative or all the same in train, images cannot be
                read, the batch cannot be split over the ranks, or the loss becomes non-finite.
        """
        config = self.config
        classes, labels = _train_classes("linear_sgd", subject.train)
        recipe = Recipe(
            epochs=config.epochs,
            global_batch_size=config.global_batch_size,
            head_lr=config.lr,
            backbone_lr=None,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            factor=lambda epoch: (1 + math.cos(math.pi * epoch / config.epochs)) / 2,
            head_std=0.01,
            min_scale=config.min_scale,
            flip=config.flip,
        )
        rows = np.arange(len(labels))
        return _score("linear_sgd", config, subject, (classes, labels, rows), recipe, seed).scores


@EVALUATORS.register
class Finetune(ImageEvaluator):
    """Accuracy of the whole network, fine-tuned on a fraction of the labels.

    Scores are `top1` and, with more than 5 classes, `top5`, in percent, of the last epoch, with
    intervals bootstrapped over test images. The images are drawn with the seed: the same fraction
    of each class, and at least one image. The learning rate drops to a fifth after 60 % and again
    after 80 % of the epochs. Batch normalisation uses batch statistics, so this evaluator runs in
    one process only.
    """

    class Config(_Settings):
        """Settings of semi-supervised fine-tuning; defaults are SwAV's."""

        shorthand: ClassVar[str | None] = "fraction"

        name: Literal["finetune"] = "finetune"
        fraction: float = Field(default=0.1, gt=0, le=1)
        """Fraction of the train images to use, with their labels."""
        epochs: int = Field(default=20, ge=1, le=100_000)
        """Passes over these images."""
        backbone_lr: float | None = Field(default=None, gt=0, le=1000)
        """Learning rate of the backbone at a batch size of 256; by default 0.02 for up to 5 % of
        the labels and 0.01 above."""
        head_lr: float | None = Field(default=None, gt=0, le=1000)
        """Learning rate of the linear layer at a batch size of 256; by default 5 for up to 5 % of
        the labels and 0.2 above."""
        weight_decay: float = Field(default=0.0, ge=0, le=10)
        """Multiple of the weights that is added to the gradient."""

    config: Config
    labelled = ("train", "test")

    def evaluate_images(self, subject: Subject, *, seed: int = 0) -> Scores:
        """Returns the accuracies on the test split; see `fitted`."""
        return self.fitted(subject, seed=seed).scores

    def fitted(self, subject: Subject, *, seed: int = 0) -> Finetuned:
        """Returns a copy of the network, trained, with its accuracies on the test split.

        Raises:
            UserError: there are several processes, labels are missing, negative or all the same in
                train, images cannot be read, or the loss becomes non-finite.
        """
        config = self.config
        if distributed.world_size() > 1:
            raise UserError.everywhere(
                f"finetune runs in one process, not {distributed.world_size()}: batch "
                "normalisation would use smaller batches; run it without torchrun"
            )
        classes, labels = _train_classes("finetune", subject.train)
        few = config.fraction <= FEW_LABELS
        head_lr, backbone_lr = (5.0, 0.02) if few else (0.2, 0.01)
        recipe = Recipe(
            epochs=config.epochs,
            global_batch_size=config.global_batch_size,
            head_lr=config.head_lr or head_lr,
            backbone_lr=config.backbone_lr or backbone_lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            factor=lambda epoch: 0.2 ** sum(5 * epoch >= at * config.epochs for at in (3, 4)),
            head_std=None,
            min_scale=config.min_scale,
            flip=config.flip,
        )
        rows = balanced(labels, config.fraction, seed=seed)
        return _score("finetune", config, subject, (classes, labels, rows), recipe, seed)


def balanced(labels: NDArray[np.int64], fraction: float, *, seed: int) -> NDArray[np.int64]:
    """Returns sorted positions of the same fraction of each class, at least one image each."""
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(labels))
    parts = []
    for label in np.unique(labels):
        members = order[labels[order] == label]
        parts.append(members[: max(1, round(fraction * len(members)))])
    return np.sort(np.concatenate(parts))


def _train_classes(evaluator: str, train: Dataset) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the classes of the train split and each image's position among them."""
    labels = _labels(evaluator, "train", train)
    classes, found = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise UserError.everywhere(
            f"{evaluator} needs at least 2 classes, but all {len(labels)} images of the train "
            f"split are of class {classes[0]}; choose another data set"
        )
    return classes, found


def _labels(evaluator: str, split: str, dataset: Dataset) -> NDArray[np.int64]:
    if dataset.labels is None:
        raise UserError.everywhere(
            f"{evaluator} needs labels, but the {split} split has none; choose a labelled data set"
        )
    labels = dataset.labels.numpy().astype(np.int64)
    if labels.ndim != 1:
        raise UserError.everywhere(
            f"{evaluator} needs one class per image, but the {split} split has labels for "
            f"{labels.shape[1]} classes per image; use svm"
        )
    if (labels < 0).any():
        raise UserError.everywhere(
            f"{int((labels < 0).sum())} of {len(labels)} {split} labels are negative; "
            "classes start at 0; leave unlabelled images out"
        )
    return labels


def _score(
    evaluator: str,
    config: Any,
    subject: Subject,
    known: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
    recipe: Recipe,
    seed: int,
) -> Finetuned:
    """Trains, tests and returns the network and its scores.

    Args:
        known: classes `(K,)`, the position of each train image's class among them `(N,)`, and the
            positions of the images to train on `(n,)`.
    """
    classes, labels, rows = known
    test_labels = _labels(evaluator, "test", subject.test)
    chosen = Subset(subject.train, torch.from_numpy(rows), torch.from_numpy(labels[rows]))
    truth = scoring.places(classes, test_labels)
    tested: Tested = train_and_test(subject, chosen, truth, recipe, seed=seed)
    hits = scoring.top_hits(tested.ranks, len(classes))
    values, intervals = scoring.in_percent(hits, seed=seed, n_resamples=config.n_resamples)
    settings = {
        **config.model_dump(mode="json", exclude={"n_resamples"}),
        "name": "sgd-on-frozen-features" if recipe.backbone_lr is None else "fine-tuning",
        "head_lr": recipe.head_lr,
        "backbone_lr": recipe.backbone_lr,
        "version": VERSION,
    }
    scores = Scores(
        values=values,
        intervals=intervals,
        protocol=scoring.described(evaluator, settings),
        headline="top1",
        outcomes=dict(hits),
        details={
            "n_labelled": len(rows),
            "steps": tested.steps,
            "loss_by_epoch": tested.losses,
            "top1_by_class": scoring.by_class(hits["top1"], test_labels[tested.index]),
        },
    )
    return Finetuned(tested.network, classes, scores)
