"""What evaluators demand of features and labels, with errors that say what to do."""

import logging
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ssl_zoo.data.base import Dataset
from ssl_zoo.errors import UserError
from ssl_zoo.evaluators.base import Evaluator, Features
from ssl_zoo.evaluators.search.mapped import let_go

logger = logging.getLogger(__name__)

_BLOCK = 1 << 24  # numbers looked at in one go


def check_features(evaluator: str, *, train: Features, test: Features) -> None:
    """Checks the shape and the values of two splits.

    A feature of length zero has no direction: it is kept, its cosine with anything is 0, and a
    warning tells how many there are.

    Raises:
        UserError: a split is empty or no matrix, dimensions differ, or values are not finite.
    """
    for split, features in (("train", train), ("test", test)):
        shape = features.values.shape
        if len(shape) != 2 or 0 in shape:
            raise UserError(
                f"{evaluator} needs features of shape (images, numbers), and those of the {split} "
                f"split have shape {tuple(shape)}; choose a split with images"
            )
    if train.values.shape[1] != test.values.shape[1]:
        raise UserError(
            f"train features have {train.values.shape[1]} numbers each and test features "
            f"{test.values.shape[1]}; extract both splits with the same backbone"
        )
    for split, features in (("train", train), ("test", test)):
        check_values(split, features.values)


def check_labels(
    evaluator: str, split: str, features: Features, *, min_classes: Literal[1, 2] = 2
) -> NDArray[np.int64]:
    """Returns the labels of a split.

    Raises:
        UserError: there are none, they are of the wrong number, negative, or of too few classes.
    """
    labels = features.labels
    if labels is None:
        raise UserError(
            f"{evaluator} needs labels, and the {split} split has none; choose a labelled data set"
        )
    if labels.ndim == 2 and len(labels) == len(features):
        raise UserError(
            f"{evaluator} needs one class for each image, and those of the {split} split show "
            "several; score them with knn or svm"
        )
    if labels.shape != (len(features),):
        raise UserError(
            f"the {split} split has {len(features)} features and labels of shape {labels.shape}; "
            "give one label for each feature"
        )
    n_negative = int((labels < 0).sum())
    if n_negative:
        raise UserError(
            f"{n_negative} of {len(labels)} {split} labels are negative; "
            "classes count from 0, leave unlabelled images out"
        )
    if min_classes == 2 and labels.min() == labels.max():
        raise UserError(
            f"{evaluator} needs at least 2 classes, and all {len(labels)} images of the {split} "
            f"split are of class {labels[0]}; choose another split or data set"
        )
    return labels


def check_multilabels(
    evaluator: str, train: Features, test: Features, *, unsure: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the labels of both splits, `(N, C)` and `(Q, C)`: 1 where an image shows a class, else 0.

    Args:
        unsure: whether labels may also be -1, where nobody is sure.

    Raises:
        UserError: they are missing, of different classes or other numbers, or show nothing.
    """
    allowed = (-1, 0, 1) if unsure else (0, 1)
    found = []
    for split, features in (("train", train), ("test", test)):
        labels = features.labels
        if labels is None or labels.ndim != 2 or len(labels) != len(features):
            shape = "none" if labels is None else f"of shape {labels.shape}"
            raise UserError(
                f"{evaluator} needs labels of shape (images, classes) for both splits, and those of "
                f"the {split} split are {shape}; choose another split"
            )
        if not np.isin(labels, allowed).all():
            way_out = "" if unsure else "; leave images of unsure labels out"
            raise UserError(
                f"{split} labels of shape (images, classes) hold other numbers than "
                f"{'-1, 0 and 1' if unsure else '0 and 1'}{way_out}"
            )
        if not (labels == 1).any():
            raise UserError(f"no {split} image shows any class; choose another split")
        found.append(labels)
    if found[0].shape[1] != found[1].shape[1]:
        raise UserError(
            f"train labels are of {found[0].shape[1]} classes and test labels of "
            f"{found[1].shape[1]}; both splits need the same"
        )
    return found[0], found[1]


def check_splits(name: str, evaluator: Evaluator, *, train: Dataset, test: Dataset) -> None:
    """Checks the labels of two data sets before any feature is computed; `name` is the evaluator's.

    Raises:
        UserError: they do not allow this evaluation.
    """
    for place, split in enumerate(evaluator.labelled):
        dataset = train if split == "train" else test
        labels = None if dataset.labels is None else dataset.labels.numpy().astype(np.int64)
        if labels is not None and labels.ndim == 2 and evaluator.several_labels:
            continue
        no_values = np.empty((len(dataset), 0), dtype=np.float32)
        check_labels(name, split, Features(no_values, labels), min_classes=1 if place else 2)


def check_values(split: str, values: NDArray[np.float32]) -> None:
    """Refuses features `(N, D)` that are not finite and warns of zeros; `split` names them.

    Raises:
        UserError: some are NaN or infinite.
    """
    n_bad = n_zero = 0
    rows = max(1, _BLOCK // values.shape[1])
    for start in range(0, len(values), rows):
        block = values[start : start + rows]
        n_bad += int((~np.isfinite(block).all(axis=1)).sum())
        n_zero += int((~block.any(axis=1)).sum())
        let_go(values)
    if n_bad:
        raise UserError(
            f"{n_bad} of {len(values)} {split} features hold NaN or infinite numbers; "
            "the training has diverged: score an earlier checkpoint"
        )
    if n_zero:
        logger.warning(
            "%d of %d %s features are zero and equally far from everything",
            n_zero, len(values), split,
        )  # fmt: skip
