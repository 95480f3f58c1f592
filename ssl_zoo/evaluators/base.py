"""The contract of an evaluator: turns features, or a network and its images, into named scores."""

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
        labels: classes `(N,)` int64, or `(N, C)` of 0 and 1 for several classes per image; None
            without labels.
        index: position of each image in its data set, `(N,)`; None if these are all images.
        digests: 64-bit hash of each image as the network saw it, `(N,)`.
    """

    values: NDArray[np.float32]
    labels: NDArray[np.int64] | None = None
    index: NDArray[np.int64] | None = None
    digests: NDArray[np.uint64] | None = None

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Subject:
    """A network with the images to evaluate it on, for evaluators that train it further.

    Attributes:
        backbone: already on `device`; an evaluator that changes it works on a copy.
        train: data of the train split.
        test: data of the test split.
        image_size: height and width of the network's input.
        device: device to run on.
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
    """The result of an evaluator.

    Attributes:
        values: scores by name, such as `top1@k=20`, in percent if they are fractions or agreement
            indices. `NAME_std` is the sample standard deviation of score `NAME` over the
            evaluator's own random starts or draws; it is a spread, not a confidence interval.
        intervals: 95 % confidence interval over test images, in the unit of the score, for the
            scores that have one.
        protocol: everything that the scores depend on besides features, labels and seed. Its
            `digest` is equal for scores that may share a column.
        headline: the score that represents the evaluation in a table with one number per evaluator.
        outcomes: contribution of each test image to a score, for paired tests between checkpoints:
            hits `(N,)` bool, or numbers `(N,)` float32 whose mean is the score as a fraction.
        details: further JSON-serialisable results, such as accuracies by class and confusions.
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
    """Layer that the evaluator uses regardless of `--layer`: `head` or `prototypes`."""
    labelled: tuple[Split, ...] = ()
    """Splits whose labels it needs; the first must have at least two classes."""
    compares_methods: ClassVar[bool] = True
    """Whether a better score means better features of any method or network; then a table may rank them by
    it."""
    several_labels: ClassVar[bool] = False
    """Whether images may have several classes."""

    def __init__(self, config: Any) -> None:
        self.config = config

    @property
    def interpolation(self) -> "Interpolation":
        """Interpolation for resizing images: that of DINO's kNN, so that most evaluators share a pass."""
        return "bicubic"

    def evaluate(self, train: Features, test: Features, *, seed: int = 0) -> Scores:
        """Returns the scores of features.

        Raises:
            UserError: the features or labels do not allow this evaluation.
        """
        raise NotImplementedError


class ImageEvaluator(Evaluator):
    """Scores a network on images, for example by training it further.

    It always uses pooled features in float32, regardless of `--layer` and `--precision`.
    """

    @property
    def interpolation(self) -> "Interpolation":
        """Interpolation for resizing images: that of torchvision's own transforms."""
        return "bilinear"

    def evaluate(self, train: Features, test: Features, *, seed: int = 0) -> Scores:
        """Raises `TypeError`; use `evaluate_images`."""
        raise TypeError(f"{type(self).__name__} scores a network; call evaluate_images")

    def evaluate_images(self, subject: Subject, *, seed: int = 0) -> Scores:
        """Returns the scores of a network; all ranks must call it.

        Raises:
            UserError: the images or labels do not allow this evaluation.
        """
        raise NotImplementedError


EVALUATORS: "Registry[Evaluator]" = registry("evaluator")
