"""The contract of an evaluator: features in, named scores out."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Features:
    """Features of one split: `(N, D)` float32, with `(N,)` int64 labels or None."""

    values: NDArray[np.float32]
    labels: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Scores:
    """What an evaluator found.

    Attributes:
        values: scores by name, such as `top1@k=20`, in percent where they are shares or indices of
            agreement. `NAME_std` is the sample standard deviation of score `NAME` over random
            starts of the evaluator itself; it is a spread, not a confidence interval.
        intervals: 95 % confidence interval over test images, in the unit of the score, for the
            scores that have one.
        protocol: everything that the scores depend on besides features, labels and seed. Its
            `digest` is equal for scores that may stand in one column.
        headline: the score that stands for the evaluation in a table with one number each.
    """

    values: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    protocol: dict[str, Any]
    headline: str = ""


class Evaluator:
    """Scores frozen features.

    Args:
        config: the protocol and its settings.
    """

    def __init__(self, config: Any) -> None:
        self.config = config

    def evaluate(self, train: Features, test: Features, *, seed: int = 0) -> Scores:
        """Returns the scores of features.

        Raises:
            UserError: the features or labels do not allow this evaluation.
        """
        raise NotImplementedError
