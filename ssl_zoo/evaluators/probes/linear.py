"""Linear probe on frozen features: multinomial logistic regression, solved to the optimum.

After Kornblith, Shlens and Le, "Do better ImageNet models transfer better?", 2019
(arXiv:1805.08974), section A.1, and Radford et al., "Learning transferable visual models from
natural language supervision", 2021 (arXiv:2103.00020), section A.3: L-BFGS, with regularisation
chosen on a held-out part of the train split.
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from ssl_zoo.config import NamedConfig
from ssl_zoo.errors import UserError
from ssl_zoo.evaluators import scoring
from ssl_zoo.evaluators.base import EVALUATORS, Evaluator, Features, Scores
from ssl_zoo.evaluators.checks import check_features, check_labels
from ssl_zoo.evaluators.probes.design import Design, Scaling
from ssl_zoo.evaluators.probes.logistic import Classifier, LogisticRegression

logger = logging.getLogger(__name__)

VERSION = 1
"""Version of the rules below, increased when a change affects scores."""

Penalty = Annotated[float, Field(ge=1e-9, le=1e6)]


@dataclass(frozen=True)
class FittedLinear:
    """A linear classifier and its scores.

    Attributes:
        classifier: fitted to the whole train split.
        classes: label of each of its scores, `(K,)`.
        scores: accuracies on the test split.
    """

    classifier: Classifier
    classes: NDArray[np.int64]
    scores: Scores


@EVALUATORS.register
class Linear(Evaluator):
    """Accuracy of multinomial logistic regression on features.

    Scores are `top1` and, with more than 5 classes, `top5`, in percent, with intervals
    bootstrapped over test images. The penalty on the weights is the one with the best top-1
    accuracy on a held-out part of the train split, the largest in a tie; the classifier is then
    fitted to the whole train split. The test split does not influence any choice. Of classes with
    equal scores the lower one is ahead; a test class without train images is always wrong.
    """

    class Config(NamedConfig):
        """Settings of the linear probe."""

        shorthand: ClassVar[str | None] = "normalise"

        name: Literal["linear"] = "linear"
        normalise: Scaling = "standardise"
        """Preprocessing of features: `standardise` each dimension over the train split, or scale
        each feature to the same length (`l2`)."""
        penalties: tuple[Penalty, ...] = Field(
            default=(10.0, 1.0, 0.1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6), min_length=1, max_length=100
        )
        """Candidate factors of half the squared weights, added to the mean cross-entropy;
        scikit-learn's C is 1 / (penalty * train images). A single penalty is used without
        selection."""
        patience: int = Field(default=2, ge=1, le=100)
        """Penalties are tried from the largest down until this many in a row are worse than the
        best; the smallest take longest."""
        held_out: float = Field(default=0.2, gt=0, lt=1)
        """Fraction of each train class held out to compare penalties."""
        tolerance: float = Field(default=1e-4, ge=1e-7, le=1e-1)
        """L2 norm of the scaled gradient at which a fit stops; see `LogisticRegression.fit`."""
        max_iterations: int = Field(default=1000, ge=1, le=1_000_000)
        """Maximum number of L-BFGS steps; a fit that needs more is used anyway, with a warning."""
        n_resamples: int = Field(default=2000, ge=100, le=1_000_000)
        """Number of bootstrap samples for the intervals; does not affect the scores."""

        @field_validator("penalties")
        @classmethod
        def _fall(cls, penalties: tuple[float, ...]) -> tuple[float, ...]:
            if len(set(penalties)) < len(penalties):
                raise ValueError(
                    f"penalties contain a number twice: {list(penalties)}; list each once"
                )
            return tuple(sorted(penalties, reverse=True))  # each fit starts from the last solution

    config: Config
    labelled = ("train", "test")

    def evaluate(self, train: Features, test: Features, *, seed: int = 0) -> Scores:
        """Returns the accuracies on `test` of a classifier fitted to `train`; see `fitted`."""
        return self.fitted(train, test, seed=seed).scores

    def fitted(self, train: Features, test: Features, *, seed: int = 0) -> FittedLinear:
        """Returns a classifier fitted to `train` with its accuracies on `test`.

        Raises:
            UserError: features are empty, not finite or of different sizes; labels are missing,
                negative or all the same in train; or no class has an image to hold out.
        """
        check_features("linear", train=train, test=test)
        classes, labels = np.unique(check_labels("linear", "train", train), return_inverse=True)
        test_labels = check_labels("linear", "test", test, min_classes=1)
        penalty, choice = self._choose(train.values, labels, len(classes), seed)
        (classifier,) = self._fit(train.values, labels, None, len(classes), [penalty])
        truth = scoring.places(classes, test_labels)
        hits = scoring.top_hits(_ranks(classifier, test.values, truth), len(classes))
        values, intervals = scoring.in_percent(
            hits, seed=seed, n_resamples=self.config.n_resamples
        )
        solution = classifier.solution
        scores = Scores(
            values=values,
            intervals=intervals,
            protocol=scoring.described("linear", self._settings()),
            headline="top1",
            outcomes=dict(hits),
            details={
                "penalty": penalty,
                **choice,
                "converged": solution.converged,
                "iterations": solution.iterations,
                "gradient_norm": solution.gradient_norm,
                "top1_by_class": scoring.by_class(hits["top1"], test_labels),
            },
        )
        return FittedLinear(classifier, classes, scores)

    def _choose(
        self, values: NDArray[np.float32], labels: NDArray[np.int64], n_classes: int, seed: int
    ) -> tuple[float, dict[str, Any]]:
        """Returns the chosen penalty and the accuracy of each candidate."""
        penalties = self.config.penalties
        if len(penalties) == 1:
            return penalties[0], {}
        fitted, held_out = scoring.stratified(labels, self.config.held_out, seed=seed)
        if not len(held_out):
            raise UserError(
                f"{len(labels)} train images of {n_classes} classes are too few to hold out "
                f"{self.config.held_out:g} of each; raise held_out or set a single penalty"
            )
        shares: list[float] = []
        for classifier in self._fit(values, labels[fitted], fitted, n_classes, penalties):
            found = _ranks(classifier, values, labels[held_out], held_out)
            shares.append(100 * float((found == 0).mean()))
            if max(shares) > max(shares[-self.config.patience :]):
                break
        best = int(np.argmax(shares))
        return penalties[best], {
            "penalties": list(penalties[: len(shares)]),
            "held_out_top1": shares,
            "best_is_last_allowed": best in (0, len(penalties) - 1),
        }

    def _fit(
        self,
        values: NDArray[np.float32],
        labels: NDArray[np.int64],
        rows: NDArray[np.int64] | None,
        n_classes: int,
        penalties: Iterable[float],
    ) -> Iterator[Classifier]:
        design = Design(values, rows, normalise=self.config.normalise)
        regression = LogisticRegression(design, labels, n_classes=n_classes)
        tolerance, most = self.config.tolerance, self.config.max_iterations
        for penalty in penalties:
            found = regression.fit(penalty, tolerance=tolerance, max_iterations=most)
            if not found.solution.converged:
                logger.warning(
                    "linear: the fit with penalty %g stopped after %d steps with a gradient norm of %.2g, "
                    "above tolerance=%g",
                    penalty, found.solution.iterations, found.solution.gradient_norm, tolerance,
                )  # fmt: skip
            yield found

    def _settings(self) -> dict[str, Any]:
        return {
            **self.config.model_dump(mode="json", exclude={"n_resamples"}),
            "name": "logistic-regression",
            "version": VERSION,
        }


def _ranks(
    classifier: Classifier,
    values: NDArray[np.float32],
    truth: NDArray[np.int64],
    rows: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Counts the classes ahead of the true one for all features, or for `rows`."""
    blocks = classifier.scores(values, rows)
    return np.concatenate([scoring.ranks(scores, truth[place]) for place, scores in blocks])
