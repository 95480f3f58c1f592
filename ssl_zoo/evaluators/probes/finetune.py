"""Accuracy after training on labels: of a linear layer alone, or of the network with it.

Settings are those of SwAV's evaluations (Caron et al., 2020, arXiv:2006.09882, sections A.3 and A.4;
facebookresearch/swav at 06b1b7c, eval_linear.py and eval_semisup.py). What differs: the last epoch
is reported, not the best on the test split; the labelled images are drawn by the seed, not read
from SimCLR's lists.
"""

import math
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
from ssl_zoo.evaluators.probes.supervision import Recipe, Tested, train_and_test

VERSION = 1
"""Counts changes of the rules below that change scores."""

FEW_LABELS = 0.05
"""Fraction up to which fine-tuning takes the settings for 1 % of the labels."""


class _Settings(NamedConfig):
    global_batch_size: int = Field(default=256, ge=1, le=1_000_000)
    """Images of a step over all processes; learning rates are given for 256 and grow with it."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Of SGD."""
    min_scale: float = Field(default=0.08, gt=0, le=1)
    """Smallest part of an image's area that a training crop shows."""
    flip: float = Field(default=0.5, ge=0, le=1)
    """How often a training crop is mirrored; 0 where left and right matter."""
    n_resamples: int = Field(default=2000, ge=100, le=1_000_000)
    """Bootstrap samples behind the intervals; does not touch the scores."""


@EVALUATORS.register
class LinearSgd(ImageEvaluator):
    """Accuracy of a linear layer that SGD trains on the frozen network's features of random crops.

    Scores are `top1` and, with more than 5 classes, `top5`, in percent, of the last epoch, with
    intervals bootstrapped over test images. The learning rate falls along half a cosine, once an
    epoch; weights start as N(0, 0.01).
    """

    class Config(_Settings):
        """Settings of the linear probe by SGD; defaults are SwAV's."""

        shorthand: ClassVar[str | None] = "epochs"

        name: Literal["linear_sgd"] = "linear_sgd"
        epochs: int = Field(default=100, ge=1, le=100_000)
        """Passes over the train split."""
        lr: float = Field(default=0.3, gt=0, le=1000)
        """Learning rate of the first epoch at a batch of 256."""
        weight_decay: float = Field(default=1e-6, ge=0, le=10)
        """Multiple of the weights that is added to the gradient."""

    config: Config
    labelled = ("train", "test")

    def evaluate_images(self, subject: Subject, *, seed: int = 0) -> Scores:
        """Returns the accuracies on the test split; all ranks call it together.

        Raises:
            UserError: labels are missing, negative or all the same in train, images cannot be
                read, the batch cannot be split over the ranks, or the loss is no longer finite.
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
        return _score("linear_sgd", config, subject, (classes, labels, rows), recipe, seed)


@EVALUATORS.register
class Finetune(ImageEvaluator):
    """Accuracy of the whole network, trained on the labels of a few images.

    Scores are `top1` and, with more than 5 classes, `top5`, in percent, of the last epoch, with
    intervals bootstrapped over test images. The images are drawn by the seed, the same fraction of
    each class and at least one. The learning rate falls to a fifth after 60 % and again after 80 %
    of the epochs. Batch normalisation trains with the statistics of a batch, which is why it runs
    in one process.
    """

    class Config(_Settings):
        """Settings of semi-supervised fine-tuning; defaults are SwAV's."""

        shorthand: ClassVar[str | None] = "fraction"

        name: Literal["finetune"] = "finetune"
        fraction: float = Field(default=0.1, gt=0, le=1)
        """Part of the train images whose labels are used."""
        epochs: int = Field(default=20, ge=1, le=100_000)
        """Passes over these images."""
        backbone_lr: float | None = Field(default=None, gt=0, le=1000)
        """Learning rate of the backbone at a batch of 256; by default 0.02 up to 5 % of the labels
        and 0.01 above."""
        head_lr: float | None = Field(default=None, gt=0, le=1000)
        """Learning rate of the linear layer at a batch of 256; by default 5 up to 5 % of the labels
        and 0.2 above."""
        weight_decay: float = Field(default=0.0, ge=0, le=10)
        """Multiple of the weights that is added to the gradient."""

    config: Config
    labelled = ("train", "test")

    def evaluate_images(self, subject: Subject, *, seed: int = 0) -> Scores:
        """Returns the accuracies on the test split.

        Raises:
            UserError: there are several processes, labels are missing, negative or all the same in
                train, images cannot be read, or the loss is no longer finite.
        """
        config = self.config
        if distributed.world_size() > 1:
            raise UserError.everywhere(
                f"finetune runs in one process, not {distributed.world_size()}: batch "
                "normalisation would see other batches; start it without torchrun"
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
    """Returns positions of the same fraction of each class, at least one, in rising order."""
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
            f"{evaluator} needs at least 2 classes, and all {len(labels)} images of the train "
            f"split are of class {classes[0]}; choose another data set"
        )
    return classes, found


def _labels(evaluator: str, split: str, dataset: Dataset) -> NDArray[np.int64]:
    if dataset.labels is None:
        raise UserError.everywhere(
            f"{evaluator} needs labels, and the {split} split has none; choose a labelled data set"
        )
    labels = dataset.labels.numpy().astype(np.int64)
    if labels.ndim != 1:
        raise UserError.everywhere(
            f"{evaluator} needs one class for each image, and the {split} split marks "
            f"{labels.shape[1]} classes each; choose svm"
        )
    if (labels < 0).any():
        raise UserError.everywhere(
            f"{int((labels < 0).sum())} of {len(labels)} {split} labels are negative; "
            "classes count from 0, leave unlabelled images out"
        )
    return labels


def _score(
    evaluator: str,
    config: Any,
    subject: Subject,
    known: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
    recipe: Recipe,
    seed: int,
) -> Scores:
    """Trains, tests and describes.

    Args:
        known: classes `(K,)`, the place of each train image's among them `(N,)`, and positions of
            the images to train on `(n,)`.
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
    return Scores(
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
