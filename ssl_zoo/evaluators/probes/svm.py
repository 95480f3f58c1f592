"""Linear support vector machines on features, with all labels or a few per class.

Goyal, Mahajan, Gupta and Misra, "Scaling and benchmarking self-supervised visual representation
learning", 2019 (arXiv:1905.01235), section 6.1 and appendix; settings of facebookresearch/vissl
(svm_utils/svm_trainer.py) and, for few labels, of Li et al., "Prototypical contrastive learning",
2021 (arXiv:2005.04966; salesforce/PCL, eval_svm_voc.py).
"""

import logging
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator
from torch import Tensor

from ssl_zoo.config import NamedConfig
from ssl_zoo.errors import UserError
from ssl_zoo.evaluators import scoring
from ssl_zoo.evaluators.base import EVALUATORS, Evaluator, Features, Scores
from ssl_zoo.evaluators.checks import check_features, check_labels, check_multilabels
from ssl_zoo.evaluators.probes.average_precision import mean_interval, voc_average_precision
from ssl_zoo.evaluators.probes.hinge import Machines, SquaredHinge, prepare

logger = logging.getLogger(__name__)

Labels = NDArray[np.int64]
Cost = Annotated[float, Field(ge=1e-9, le=1e6)]
Count = Annotated[int, Field(ge=1, le=10_000)]

VERSION = 1
"""Version of the rules below, increased when a change affects scores."""


@EVALUATORS.register
class Svm(Evaluator):
    """Mean average precision of one-vs-rest linear SVMs.

    Labels are `(N, C)` of 1, 0 and, if unsure, -1, for images with several classes; unsure images
    are ignored for that class in train and test. Single-class labels also work. Features are
    L2-normalised. Scores are in percent. `map` uses all labels, with the cost of each class chosen
    by cross-validation on train; its interval is bootstrapped over test images. `map@k=K` uses K
    images per class, drawn one class after another, and one cost for all classes; it is the mean
    over draws with its spread in `map@k=K_std`. Average precision is that of
    `voc_average_precision`; classes without test images are left out.
    """

    class Config(NamedConfig):
        """Settings of the support vector machines."""

        name: Literal["svm"] = "svm"
        costs: tuple[Cost, ...] = Field(
            default=(1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0), min_length=1, max_length=100
        )
        """Candidate costs (weights of errors) for each class; from the range of Goyal et al.,
        without the smaller ones, which do not win on L2-normalised features."""
        n_folds: int = Field(default=3, ge=2, le=100)
        """Number of cross-validation folds."""
        positive_weight: float = Field(default=2.0, gt=0, le=1000)
        """Weight of images of the class; other images have weight 1."""
        low_shot: tuple[Count, ...] = (1, 2, 4, 8, 16)
        """Numbers of images per class, K, for few-shot scores; an empty list for all labels only."""
        n_draws: int = Field(default=5, ge=1, le=1000)
        """Number of draws of these images to average over."""
        low_shot_cost: Cost = 0.5
        """Cost for few-shot scores, which have no images to choose it on; from Li et al."""
        tolerance: float = Field(default=1e-4, ge=1e-9, le=1e-1)
        """Norm of the gradient, relative to that at zero weights, at which a fit stops."""
        max_iterations: int = Field(default=2000, ge=1, le=1_000_000)
        """Maximum number of steps; a fit that needs more is used anyway, with a warning."""
        n_resamples: int = Field(default=1000, ge=100, le=1_000_000)
        """Number of bootstrap samples for the interval; does not affect the scores."""

        @field_validator("costs", "low_shot")
        @classmethod
        def _rise(cls, values: tuple[float, ...]) -> tuple[float, ...]:
            if len(set(values)) < len(values):
                raise ValueError(f"{list(values)} contains a number twice; list each once")
            return tuple(sorted(values))  # each fit starts from the last solution

    config: Config
    labelled = ("train", "test")
    several_labels = True

    def evaluate(self, train: Features, test: Features, *, seed: int = 0) -> Scores:
        """Returns the mean average precision on `test` of machines fitted to `train`.

        Raises:
            UserError: features are empty, not finite or of different sizes; labels are missing or
                of different kinds; or no class has positive and negative train images and a test
                image.
        """
        check_features("svm", train=train, test=test)
        classes, labels, wanted = class_labels(train, test)
        points, queries = prepare(train.values), prepare(test.values)
        costs, choice = self._choose(points, labels, seed)
        scores, converged = self._fit_all(points, labels, queries, costs)
        found = precisions(scores, wanted)
        values = {"map": 100 * float(found.mean())}
        low, high = mean_interval(scores, wanted, seed=seed, n_resamples=self.config.n_resamples)
        for k in self.config.low_shot:
            few = [self._few(points, labels, queries, wanted, k, draw, seed)
                   for draw in range(self.config.n_draws)]  # fmt: skip
            values[f"map@k={k}"] = float(np.mean(few))
            if len(few) > 1:
                values[f"map@k={k}_std"] = float(np.std(few, ddof=1))
        return Scores(
            values=values,
            intervals={"map": (100 * low, 100 * high)},
            protocol=scoring.described("svm", self._settings()),
            headline="map",
            details={
                "ap_by_class": dict(zip(classes, (100 * found).tolist(), strict=True)),
                "cost_by_class": dict(zip(classes, costs, strict=True)),
                "cross_validated_map_by_cost": choice,
                "converged": converged,
            },
        )

    def _choose(
        self, points: Tensor, labels: Labels, seed: int
    ) -> tuple[list[float], list[float]]:
        """Returns the cost of each class, and the mean score over classes for each cost."""
        costs, n_classes = self.config.costs, labels.shape[1]
        if len(costs) == 1:
            return [costs[0]] * n_classes, []
        n_folds = min(self.config.n_folds, len(labels))
        order = np.random.default_rng(seed).permutation(len(labels))
        found = np.full((n_folds, len(costs), n_classes), np.nan)
        for fold in range(n_folds):
            held_out = np.sort(order[fold::n_folds])
            fitted = np.sort(np.setdiff1d(order, held_out))
            machines = SquaredHinge(
                points[fitted], labels[fitted], positive_weight=self.config.positive_weight
            )
            for place, cost in enumerate(costs):
                scores = self._fit(machines, cost).scores(points[held_out])
                found[fold, place] = precisions(scores, labels[held_out])
        # A fold without images of a class cannot score that class.
        known = np.isfinite(found)
        means = np.where(known, found, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        return [costs[place] for place in means.argmax(axis=0)], (
            100 * means.mean(axis=1)
        ).tolist()

    def _fit_all(
        self, points: Tensor, labels: Labels, queries: Tensor, costs: list[float]
    ) -> tuple[NDArray[np.float64], bool]:
        """Returns scores of `queries` `(Q, C)`, each class at its cost, and whether all fits converged."""
        scores, converged = np.empty((len(queries), labels.shape[1])), True
        machines = SquaredHinge(points, labels, positive_weight=self.config.positive_weight)
        for cost in sorted(set(costs)):
            found = self._fit(machines, cost)
            chosen = [place for place, own in enumerate(costs) if own == cost]
            scores[:, chosen] = found.scores(queries)[:, chosen]
            converged = converged and found.converged
        return scores, converged

    def _few(
        self,
        points: Tensor,
        labels: Labels,
        queries: Tensor,
        wanted: Labels,
        k: int,
        draw: int,
        seed: int,
    ) -> float:
        """Returns the mean average precision with `k` images per class, in percent."""
        rows = few_rows(labels, k, seed=[seed, draw])
        machines = SquaredHinge(
            points[rows], labels[rows], positive_weight=self.config.positive_weight
        )
        scores = self._fit(machines, self.config.low_shot_cost).scores(queries)
        return 100 * float(precisions(scores, wanted).mean())

    def _fit(self, machines: SquaredHinge, cost: float) -> Machines:
        most = self.config.max_iterations
        found = machines.fit(cost, tolerance=self.config.tolerance, max_iterations=most)
        if not found.converged:
            logger.warning("svm: the fit with cost %g did not converge in %d steps", cost, most)
        return found

    def _settings(self) -> dict[str, Any]:
        settings = self.config.model_dump(mode="json", exclude={"n_resamples"})
        return {**settings, "name": "linear-svm", "version": VERSION}


def class_labels(train: Features, test: Features) -> tuple[list[str], Labels, Labels]:
    """Returns the names of classes and the labels of both splits, `(N, C)` and `(Q, C)`.

    Classes that occur in all or no train images, or in no test image, are left out.

    Raises:
        UserError: labels are missing or of different kinds, or no class remains.
    """
    kinds = [None if one.labels is None else one.labels.ndim for one in (train, test)]
    if kinds == [2, 2]:
        found = [*check_multilabels("svm", train, test, unsure=True)]
        names = np.arange(found[0].shape[1])
    else:  # one class per image
        own = check_labels("svm", "train", train)
        names = np.unique(own)
        wanted = check_labels("svm", "test", test, min_classes=1)
        found = [(one[:, None] == names).astype(np.int64) for one in (own, wanted)]
    shown = (found[0] == 1).any(axis=0) & (found[0] == 0).any(axis=0) & (found[1] == 1).any(axis=0)
    if not shown.any():
        raise UserError(
            f"svm finds no class among {len(names)} with positive and negative train images and "
            "positive test images; choose other splits"
        )
    return [str(name) for name in names[shown]], found[0][:, shown], found[1][:, shown]


def precisions(scores: NDArray[np.float64], labels: Labels) -> NDArray[np.float64]:
    """Returns the average precision of each class, `(C,)`; NaN for classes without images."""
    found = []
    for place in range(labels.shape[1]):
        kept = labels[:, place] >= 0
        found.append(voc_average_precision(scores[kept, place], labels[kept, place] == 1)[0])
    return np.array(found)


def few_rows(labels: Labels, k: int, *, seed: list[int]) -> NDArray[np.int64]:
    """Draws `k` images of each class, or all if there are fewer, one class after another.

    An image that is drawn for two classes occurs twice.
    """
    generator = np.random.default_rng(seed)
    drawn = [
        generator.permutation(np.flatnonzero(labels[:, place] == 1))[:k]
        for place in range(labels.shape[1])
    ]
    return np.concatenate(drawn)
