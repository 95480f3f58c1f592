"""Checks of features and labels, with errors that say how to fix them."""

import logging
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ssl_zoo.data.base import Dataset
from ssl_zoo.errors import UserError
from ssl_zoo.evaluators.base import Evaluator, Features
from ssl_zoo.evaluators.search.mapped import let_go

logger = logging.getLogger(__name__)

_BLOCK = 1 << 24  # values checked at a time


def check_features(evaluator: str, *, train: Features, test: Features) -> None:
    """Checks the shape and the values of two splits.

    A feature of length zero has no direction: it is kept, its cosine with any vector is 0, and a
    warning reports how many there are.

    Raises:
        UserError: a split is empty or not a matrix, dimensions differ, or values are not finite.
    """
    for split, features in (("train", train), ("test", test)):
        shape = features.values.shape
        if len(shape) != 2 or 0 in shape:
            raise UserError(
                f"{evaluator} needs features of shape (images, numbers), but those of the {split} "
                f"split have shape {tuple(shape)}; choose a split with images"
            )
    if train.values.shape[1] != test.values.shape[1]:
        raise UserError(
            f"train features have dimension {train.values.shape[1]} but test features have dimension "
            f"{test.values.shape[1]}; extract both splits with the same backbone"
        )
    for split, features in (("train", train), ("test", test)):
        check_values(split, features.values)


def check_labels(
    evaluator: str, split: str, features: Features, *, min_classes: Literal[1, 2] = 2
) -> NDArray[np.int64]:
    """Returns the labels of a split.

    Raises:
        UserError: labels are missing, negative, of the wrong number, or of too few classes.
    """
    labels = features.labels
    if labels is None:
        raise UserError(
            f"{evaluator} needs labels, but the {split} split has none; choose a labelled data set"
        )
    if labels.ndim == 2 and len(labels) == len(features):
        raise UserError(
            f"{evaluator} needs one class per image, but those of the {split} split show "
            "several; score them with knn or svm"
        )
    if labels.shape != (len(features),):
        raise UserError(
            f"the {split} split has {len(features)} features and labels of shape {labels.shape}; "
            "provide one label per feature"
        )
    n_negative = int((labels < 0).sum())
    if n_negative:
        raise UserError(
            f"{n_negative} of {len(labels)} {split} labels are negative; "
            "classes start at 0; leave unlabelled images out"
        )
    if min_classes == 2 and labels.min() == labels.max():
        raise UserError(
            f"{evaluator} needs at least 2 classes, but all {len(labels)} images of the {split} "
            f"split are of class {labels[0]}; choose another split or data set"
        )
    return labels


def check_multilabels(
    evaluator: str, train: Features, test: Features, *, unsure: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the labels of both splits, `(N, C)` and `(Q, C)`: 1 if an image shows a class, else 0.

    Args:
        unsure: whether labels may also be -1, for unsure.

    Raises:
        UserError: labels are missing, of different classes, have other values, or mark no class.
    """
    allowed = (-1, 0, 1) if unsure else (0, 1)
    found = []
    for split, features in (("train", train), ("test", test)):
        labels = features.labels
        if labels is None or labels.ndim != 2 or len(labels) != len(features):
            shape = "none" if labels is None else f"of shape {labels.shape}"
            raise UserError(
                f"{evaluator} needs labels of shape (images, classes) for both splits, but those of "
                f"the {split} split are {shape}; choose another split"
            )
        if not np.isin(labels, allowed).all():
            way_out = "" if unsure else "; leave out images with unsure labels"
            raise UserError(
                f"{split} labels of shape (images, classes) contain values other than "
                f"{'-1, 0 and 1' if unsure else '0 and 1'}{way_out}"
            )
        if not (labels == 1).any():
            raise UserError(f"no {split} image shows any class; choose another split")
        found.append(labels)
    if found[0].shape[1] != found[1].shape[1]:
        raise UserError(
            f"train labels have {found[0].shape[1]} classes but test labels have "
            f"{found[1].shape[1]}; both splits need the same classes"
        )
    return found[0], found[1]


def check_splits(name: str, evaluator: Evaluator, *, train: Dataset, test: Dataset) -> None:
    """Checks the labels of two data sets before features are computed; `name` is the evaluator.

    Raises:
        UserError: the labels do not allow this evaluation.
    """
    for place, split in enumerate(evaluator.labelled):
        dataset = train if split == "train" else test
        labels = None if dataset.labels is None else dataset.labels.numpy().astype(np.int64)
        if labels is not None and labels.ndim == 2 and evaluator.several_labels:
            continue
        no_values = np.empty((len(dataset), 0), dtype=np.float32)
        check_labels(name, split, Features(no_values, labels), min_classes=1 if place else 2)


def check_values(split: str, values: NDArray[np.float32]) -> None:
    """Checks that features `(N, D)` of a split are finite, and logs a warning for zeros.

    Raises:
        UserError: a feature is NaN or infinite.
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
            f"{n_bad} of {len(values)} {split} features contain NaN or infinite values; "
            "training has diverged; score an earlier checkpoint"
        )
    if n_zero:
        logger.warning(
            "%d of %d %s features are zero and have no direction",
            n_zero, len(values), split,
        )  # fmt: skip
