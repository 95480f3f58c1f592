"""Multinomial logistic regression on features, solved to the optimum."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ssl_zoo.evaluators.probes.design import BLOCK_NUMBERS, Design, Scaler
from ssl_zoo.evaluators.probes.lbfgs import Solution, minimise

_CURVATURE = 0.5
"""Bound on the loss's second derivative relative to that of a least-squares fit: Böhning, "Multinomial
logistic regression algorithm", 1992."""


@dataclass(frozen=True)
class Classifier:
    """A linear classifier.

    Attributes:
        scaler: preprocessing of features.
        weights: `(K, D)` float64.
        bias: `(K,)` float64.
        solution: result of the minimisation.
    """

    scaler: Scaler
    weights: Tensor
    bias: Tensor
    solution: Solution

    def scores(
        self, values: NDArray[np.float32], rows: NDArray[np.int64] | None = None
    ) -> Iterator[tuple[slice, Tensor]]:
        """Yields slices and the scores `(B, K)` of features, or only of `rows` if given."""
        n = len(values) if rows is None else len(rows)
        step = max(1, BLOCK_NUMBERS // max(values.shape[1], len(self.bias)))
        for start in range(0, n, step):
            place = slice(start, min(start + step, n))
            block = self.scaler(values[place] if rows is None else values[rows[place]])
            yield place, _linear(block, self.weights, self.bias)

    def folded(self) -> tuple[Tensor, Tensor]:
        """Returns weights `(K, D)` and bias `(K,)` of the same scores of features that are not prepared;
        with `scaler.rows`, of features of length sqrt(D)."""
        weights = self.weights * self.scaler.gain
        return weights, self.bias - weights @ self.scaler.mean


class LogisticRegression:
    """Fits classifiers with different regularisation to the same features.

    The objective is the mean cross-entropy plus `penalty / 2` times the squared norm of all
    weights; the bias is not regularised. It equals scikit-learn's with `C = 1 / (penalty * n)`.

    Sums over blocks are float64. L-BFGS runs in coordinates in which the second
    derivative is at most 1: directions of the features' covariance, each scaled by Böhning's bound
    on the curvature and the penalty, which takes a few dozen passes where raw coordinates take
    thousands. Each fit starts from the last solution.

    Args:
        design: prepared features of n images.
        labels: classes from 0 to `n_classes - 1`, `(n,)`.
        n_classes: number of classes, K.
    """

    def __init__(self, design: Design, labels: NDArray[np.int64], *, n_classes: int) -> None:
        self._design = design
        self._labels = torch.from_numpy(labels)
        self._variances, self._axes = design.spread()
        self._weights = torch.zeros(n_classes, design.n_numbers, dtype=torch.float64)
        self._bias = torch.zeros(n_classes, dtype=torch.float64)

    def fit(self, penalty: float, *, tolerance: float, max_iterations: int) -> Classifier:
        """Returns the classifier that minimises the objective.

        Args:
            penalty: factor of the squared weights, above 0.
            tolerance: L2 norm of the gradient, in the scaled coordinates, at which the fit stops.
            max_iterations: maximum number of passes, not counting those of line searches.
        """
        scale = (_CURVATURE * self._variances + penalty).rsqrt()
        scale = torch.cat([scale, scale.new_full((1,), _CURVATURE**-0.5)])

        def objective(point: Tensor) -> tuple[float, Tensor]:
            turned = scale * point.view(-1, len(scale))
            weights = turned[:, :-1]
            loss, slope, slope_of_bias = self._loss(self._turn(weights), turned[:, -1])
            slope = self._turn_back(slope) + penalty * weights
            value = loss + penalty / 2 * float(weights.square().sum())
            return value, (scale * torch.cat([slope, slope_of_bias[:, None]], 1)).flatten()

        start = torch.cat([self._turn_back(self._weights), self._bias[:, None]], 1) / scale
        solution = minimise(
            objective, start.flatten(), tolerance=tolerance, max_iterations=max_iterations
        )
        turned = scale * solution.point.view(-1, len(scale))
        self._weights, self._bias = self._turn(turned[:, :-1]), turned[:, -1]
        return Classifier(self._design.scaler, self._weights, self._bias, solution)

    def _turn(self, weights: Tensor) -> Tensor:
        return weights if self._axes is None else weights @ self._axes.T

    def _turn_back(self, weights: Tensor) -> Tensor:
        return weights if self._axes is None else weights @ self._axes

    def _loss(self, weights: Tensor, bias: Tensor) -> tuple[float, Tensor, Tensor]:
        """Returns the mean cross-entropy and its gradients."""
        n, loss = len(self._design), 0.0
        slope, slope_of_bias = torch.zeros_like(weights), torch.zeros_like(bias)
        for place, block in self._design:
            truth = self._labels[place]
            logs = functional.log_softmax(_linear(block, weights, bias), dim=1)
            loss -= float(logs.gather(1, truth[:, None]).sum(dtype=torch.float64))
            error = logs.exp_()
            error[torch.arange(len(truth)), truth] -= 1
            slope += error.T @ block  # twice as fast in this layout as (D, K)
            slope_of_bias += error.sum(dim=0, dtype=torch.float64)
        return loss / n, slope / n, slope_of_bias / n


def _linear(block: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    return functional.linear(block, weights.to(block.dtype), bias.to(block.dtype))
