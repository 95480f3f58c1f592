"""The contract of an evaluator: features, or a network and its images, in; named scores out."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ssl_zoo.backbones.base import Backbone
from ssl_zoo.data.base import Dataset, Split
from ssl_zoo.registry import Registry, registry

if TYPE_CHECKING:
    import torch

    from ssl_zoo.augmentations.evaluation import Interpolation
    from ssl_zoo.backbones.base import Backbone


@dataclass(frozen=True)
class Features:
    """Features of one split.

    Attributes:
        values: `(N, D)` float32; may be a memory map of a file larger than memory.
        labels: classes `(N,)` int64, or `(N, C)` of 0 and 1 where an image shows several; None
            where there are none.
        index: position of each image in its data set, `(N,)`; None where these are all of them.
        digests: 64 bits that images share which the network saw as equal, `(N,)`.
    """

    values: NDArray[np.float32]
    labels: NDArray[np.int64] | None = None
    index: NDArray[np.int64] | None = None
    digests: NDArray[np.uint64] | None = None

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Subject:
    """A network under test with the images to test it on, for evaluators that train it further.

    Attributes:
        backbone: on `device` already; an evaluator that changes it works on a copy.
        train: data of the train split.
        test: data of the test split.
        image_size: height and width that the network sees.
        device: where it runs.
        num_workers: loader processes, for images read from files.
    """

    backbone: "Backbone"
    train: "Dataset"
    test: "Dataset"
    image_size: int
    device: "torch.device"
    num_workers: int = 0


@dataclass(frozen=True)
class Scores:
    """What an evaluator found.

    Attributes:
        values: scores by name, such as `top1@k=20`, in percent where they are shares or indices of
            agreement. `NAME_std` is the sample standard deviation of score `NAME` over random
            starts or draws of the evaluator itself; it is a spread, not a confidence interval.
        intervals: 95 % confidence interval over test images, in the unit of the score, for the
            scores that have one.
        protocol: everything that the scores depend on besides features, labels and seed. Its
            `digest` is equal for scores that may stand in one column.
        headline: the score that stands for the evaluation in a table with one number each.
        outcomes: what each test image adds to a score, for paired tests between checkpoints: hits
            `(N,)` bool, or numbers `(N,)` float32 whose mean is the score, in shares.
        details: more than a table holds, ready for JSON: accuracies by class, confusions.
    """

    values: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    protocol: dict[str, Any]
    headline: str = ""
    outcomes: dict[str, NDArray[Any]] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)


class Evaluator:
    """Scores frozen features.

    Args:
        config: the protocol and its settings.
    """

    layer: ClassVar[str] = ""
    """What it looks at where that is not the user's choice: `head` or `prototypes`."""
    labelled: tuple[Split, ...] = ()
    """Splits whose labels it needs; the first must have two classes or more."""
    several_labels: ClassVar[bool] = False
    """Whether an image may show several classes."""

    def __init__(self, config: Any) -> None:
        self.config = config

    @property
    def interpolation(self) -> "Interpolation":
        """How images are resized for it: as for DINO's kNN, so that most evaluators share a pass."""
        return "bicubic"

    def evaluate(self, train: Features, test: Features, *, seed: int = 0) -> Scores:
        """Returns the scores of features.

        Raises:
            UserError: the features or labels do not allow this evaluation.
        """
        raise NotImplementedError


class ImageEvaluator(Evaluator):
    """Scores a network by what it does with images, such as by training it further.

    It sees the pooled features in float32, whatever others are asked to look at.
    """

    @property
    def interpolation(self) -> "Interpolation":
        """How images are resized for it: as by torchvision's own transforms."""
        return "bilinear"

    def evaluate(self, train: Features, test: Features, *, seed: int = 0) -> Scores:
        """Refuses features; see `evaluate_images`."""
        raise TypeError(f"{type(self).__name__} scores a network; call evaluate_images")

    def evaluate_images(self, subject: Subject, *, seed: int = 0) -> Scores:
        """Returns the scores of a network; all ranks call it together.

        Raises:
            UserError: the images or labels do not allow this evaluation.
        """
        raise NotImplementedError


EVALUATORS: "Registry[Evaluator]" = registry("evaluator")
