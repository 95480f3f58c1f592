"""Linear support vector machines on features, with all labels or with a few of each class.

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
"""Counts changes of the rules below that change scores."""


@EVALUATORS.register
class Svm(Evaluator):
    """Mean average precision of a linear SVM for each class against the rest.

    For images that show several classes, with labels `(N, C)` of 1, 0 and, where it is unsure, -1,
    which is left out of the class in train and test; images of one class each are taken as that.
    Features have length 1. Scores in percent: `map` with the cost of each class chosen by
    cross-validation on train, and its interval bootstrapped over test images; `map@k=K` with K
    images of each class, drawn one class after another, and one cost for all, the mean over draws
    with their spread in `map@k=K_std`. Average precision is that of `voc_average_precision`; classes
    that no test image shows are left out.
    """

    class Config(NamedConfig):
        """Settings of the support vector machines."""

        name: Literal["svm"] = "svm"
        costs: tuple[Cost, ...] = Field(
            default=(1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0), min_length=1, max_length=100
        )
        """Weights of errors to choose from for each class; from the range of Goyal et al., whose
        smaller ones do not win on features of length 1."""
        n_folds: int = Field(default=3, ge=2, le=100)
        """Parts of the train split in cross-validation."""
        positive_weight: float = Field(default=2.0, gt=0, le=1000)
        """Weight of images that show the class; that of others is 1."""
        low_shot: tuple[Count, ...] = (1, 2, 4, 8, 16)
        """Numbers of images of each class, K; none for all labels only."""
        n_draws: int = Field(default=5, ge=1, le=1000)
        """Draws of these images that scores are averaged over."""
        low_shot_cost: Cost = 0.5
        """Cost with few labels, which leave nothing to choose it on; that of Li et al."""
        tolerance: float = Field(default=1e-4, ge=1e-9, le=1e-1)
        """Gradient, relative to that at weights of 0, that ends a fit."""
        max_iterations: int = Field(default=2000, ge=1, le=1_000_000)
        """Steps of a fit at most; one that needs more is used as it is, and said to be so."""
        n_resamples: int = Field(default=1000, ge=100, le=1_000_000)
        """Bootstrap samples behind the interval; does not touch the scores."""

        @field_validator("costs", "low_shot")
        @classmethod
        def _rise(cls, values: tuple[float, ...]) -> tuple[float, ...]:
            if len(set(values)) < len(values):
                raise ValueError(f"{list(values)} names a number twice; write each once")
            return tuple(sorted(values))  # each fit starts where one ended

    config: Config
    labelled = ("train", "test")
    several_labels = True

    def evaluate(self, train: Features, test: Features, *, seed: int = 0) -> Scores:
        """Returns the mean average precision on `test` of machines fitted to `train`.

        Raises:
            UserError: features are empty, not finite or of two sizes; labels are missing, of two
                kinds, or no class is both shown and not shown in train and shown in test.
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
        """Returns the cost of each class, and the mean over classes that each cost reached."""
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
        # A fold in which no image shows a class says nothing of it.
        known = np.isfinite(found)
        means = np.where(known, found, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        return [costs[place] for place in means.argmax(axis=0)], (
            100 * means.mean(axis=1)
        ).tolist()

    def _fit_all(
        self, points: Tensor, labels: Labels, queries: Tensor, costs: list[float]
    ) -> tuple[NDArray[np.float64], bool]:
        """Returns scores of `queries` `(Q, C)`, each class at its cost, and if all fits converged."""
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
        """Returns the mean average precision with `k` images of each class, in percent."""
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

    Classes that train always or never shows, or that no test image shows, are left out.

    Raises:
        UserError: labels are missing, of two kinds, or no class remains.
    """
    kinds = [None if one.labels is None else one.labels.ndim for one in (train, test)]
    if kinds == [2, 2]:
        found = [*check_multilabels("svm", train, test, unsure=True)]
        names = np.arange(found[0].shape[1])
    else:  # one class each
        own = check_labels("svm", "train", train)
        names = np.unique(own)
        wanted = check_labels("svm", "test", test, min_classes=1)
        found = [(one[:, None] == names).astype(np.int64) for one in (own, wanted)]
    shown = (found[0] == 1).any(axis=0) & (found[0] == 0).any(axis=0) & (found[1] == 1).any(axis=0)
    if not shown.any():
        raise UserError(
            f"svm finds no class among {len(names)} that some train images show and others do not, "
            "and test images show; choose other splits"
        )
    return [str(name) for name in names[shown]], found[0][:, shown], found[1][:, shown]


def precisions(scores: NDArray[np.float64], labels: Labels) -> NDArray[np.float64]:
    """Returns the average precision of each class, `(C,)`; NaN where no image shows it."""
    found = []
    for place in range(labels.shape[1]):
        kept = labels[:, place] >= 0
        found.append(voc_average_precision(scores[kept, place], labels[kept, place] == 1)[0])
    return np.array(found)


def few_rows(labels: Labels, k: int, *, seed: list[int]) -> NDArray[np.int64]:
    """Draws `k` images that show each class, or all there are, for one class after another.

    An image that is drawn for two classes is there twice.
    """
    generator = np.random.default_rng(seed)
    drawn = [
        generator.permutation(np.flatnonzero(labels[:, place] == 1))[:k]
        for place in range(labels.shape[1])
    ]
    return np.concatenate(drawn)
