"""Linear support vector machines for many classes at once, solved to the optimum."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_zoo.evaluators.probes.lbfgs import minimise
from ssl_zoo.evaluators.search.exact import unit_rows

_RANK = 1e-12
"""Directions with a smaller fraction of the largest variance are rounding error."""


@dataclass(frozen=True)
class Machines:
    """Linear scores of C classes.

    Attributes:
        weights: `(C, D + 1)` float64; the last value of each row is the bias.
        converged: whether the fit reached its tolerance.
    """

    weights: Tensor
    converged: bool

    def scores(self, prepared: Tensor) -> NDArray[np.float64]:
        """Returns `(N, C)` for features prepared by `prepare`."""
        found: NDArray[np.float64] = (prepared @ self.weights.T).numpy()
        return found


def prepare(values: NDArray[np.float32]) -> Tensor:
    """Returns L2-normalised features with a constant 1 appended, `(N, D + 1)` float64."""
    unit = torch.from_numpy(unit_rows(values)).double()
    return torch.cat([unit, torch.ones(len(unit), 1, dtype=torch.float64)], dim=1)


class SquaredHinge:
    """Fits machines with different costs to the same features.

    The objective of a class is `|w|^2 / 2 + cost * sum of a_i max(0, 1 - y_i w x_i)^2`, with the
    bias regularised like any weight, as in LIBLINEAR (Fan et al., 2008, JMLR 9) and scikit-learn's
    `LinearSVC(loss="squared_hinge", intercept_scaling=1)`. All classes are fitted together with
    L-BFGS, in coordinates in which the second derivative is at most 1.

    Args:
        prepared: prepared features of n images, `(n, D + 1)`; see `prepare`.
        labels: 1 for positive, 0 for negative, -1 for images ignored for a class, `(n, C)`.
        positive_weight: weight `a_i` of positive images; negative images have weight 1.
    """

    def __init__(
        self, prepared: Tensor, labels: NDArray[np.int64], *, positive_weight: float
    ) -> None:
        marks = torch.from_numpy(labels)
        self._signs = torch.where(marks == 1, 1.0, -1.0).double()
        self._weights = torch.where(marks == 1, positive_weight, 1.0).double() * (marks >= 0)
        self._axes, self._variances = _axes(prepared)
        self._points = prepared @ self._axes  # (n, r)
        self._bound = 2 * max(positive_weight, 1.0)
        self._start = torch.zeros(labels.shape[1], len(self._variances), dtype=torch.float64)

    def fit(self, cost: float, *, tolerance: float, max_iterations: int) -> Machines:
        """Returns the machines that minimise the objective; each fit starts from the last solution.

        Args:
            cost: weight of errors relative to the regularisation, above 0.
            tolerance: L2 norm of the gradient relative to that at zero weights, in scaled
                coordinates, at which the fit stops.
            max_iterations: maximum number of steps.
        """
        scale = (1 + cost * self._bound * self._variances).rsqrt()

        def objective(point: Tensor) -> tuple[float, Tensor]:
            turned = scale * point.view(-1, len(scale))
            gaps = (1 - self._signs * (self._points @ turned.T)).clamp_(min=0)
            pulls = self._weights * gaps
            value = float(turned.square().sum()) / 2 + cost * float((pulls * gaps).sum())
            slope = turned - 2 * cost * (pulls * self._signs).T @ self._points
            return value, (scale * slope).flatten()

        at_zero = float(objective(torch.zeros_like(self._start).flatten())[1].norm())
        solution = minimise(
            objective,
            (self._start / scale).flatten(),
            tolerance=max(tolerance * at_zero, math.ulp(1.0)),
            max_iterations=max_iterations,
        )
        self._start = scale * solution.point.view(-1, len(scale))
        return Machines(self._start @ self._axes.T, solution.converged)


def _axes(points: Tensor) -> tuple[Tensor, Tensor]:
    """Returns orthogonal directions spanned by features `(D, r)` and their sums of squares `(r,)`."""
    wide = points.shape[0] < points.shape[1]
    squares, vectors = torch.linalg.eigh(points @ points.T if wide else points.T @ points)
    kept = squares > _RANK * squares.max()
    squares, vectors = squares[kept], vectors[:, kept]
    return (points.T @ vectors / squares.sqrt() if wide else vectors), squares
