"""Minimisation of smooth convex functions by L-BFGS.

Nocedal, "Updating quasi-Newton matrices with limited storage", 1980; two-loop recursion as in
Nocedal and Wright, "Numerical Optimization", algorithms 7.4 and 7.5.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Objective = Callable[[Tensor], tuple[float, Tensor]]
"""Returns the value and the gradient `(n,)` at a point `(n,)`, float64."""

HISTORY = 10
"""Number of past steps to remember."""
_ENOUGH = 1e-4  # fraction of the decrease predicted by the slope (Armijo)
_MAX_HALVINGS = 30
_PATIENCE = 100  # after this many steps without a smaller gradient, only rounding error is left


@dataclass(frozen=True)
class Solution:
    """The result of a minimisation.

    Attributes:
        point: `(n,)` float64.
        value: function value at the point.
        gradient_norm: L2 norm of the gradient at the point.
        iterations: number of steps taken.
        converged: whether `gradient_norm` is within the tolerance.
    """

    point: Tensor
    value: float
    gradient_norm: float
    iterations: int
    converged: bool


@torch.no_grad()
def minimise(
    objective: Objective, start: Tensor, *, tolerance: float, max_iterations: int
) -> Solution:
    """Minimises a smooth convex function.

    Works best if the second derivative is at most about 1 in each direction: the first step tried
    is the unscaled negative gradient. Stops before reaching the tolerance if rounding hides any
    further decrease.

    Args:
        objective: the function.
        start: starting point, `(n,)` float64.
        tolerance: L2 norm of the gradient at which to stop.
        max_iterations: maximum number of steps.
    """
    point = start.clone()
    value, gradient = objective(point)
    history: list[tuple[Tensor, Tensor]] = []
    least, best = math.inf, 0
    for iteration in range(max_iterations):
        norm = float(gradient.norm())
        if norm < least:
            least, best = norm, iteration
        if norm <= tolerance or iteration - best > _PATIENCE:
            return Solution(point, value, norm, iteration, norm <= tolerance)
        found = _search(objective, point, value, gradient, _direction(gradient, history))
        if found is None and history:  # past steps mislead: restart without them
            history.clear()
            found = _search(objective, point, value, gradient, -gradient)
        if found is None:
            return Solution(point, value, norm, iteration, False)
        new_point, value, new_gradient = found
        step, change = new_point - point, new_gradient - gradient
        if float(step @ change) > 1e-10 * float(change @ change):
            history = [*history[1 - HISTORY :], (step, change)]
        point, gradient = new_point, new_gradient
    norm = float(gradient.norm())
    return Solution(point, value, norm, max_iterations, norm <= tolerance)


def _direction(gradient: Tensor, history: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Returns the negative gradient times the inverse Hessian estimated from past steps."""
    direction = -gradient
    weights = []
    for step, change in reversed(history):
        weight = (step @ direction) / (step @ change)
        direction = direction - weight * change
        weights.append(weight)
    if history:
        step, change = history[-1]
        direction = direction * ((step @ change) / (change @ change))
    for (step, change), weight in zip(history, reversed(weights), strict=True):
        direction = direction + (weight - (change @ direction) / (step @ change)) * step
    return direction


def _search(
    objective: Objective, point: Tensor, value: float, gradient: Tensor, direction: Tensor
) -> tuple[Tensor, float, Tensor] | None:
    """Returns a lower point along a direction with its value and gradient; None if none is found."""
    slope = float(gradient @ direction)
    if not slope < 0:
        return None
    length = 1.0
    for _ in range(_MAX_HALVINGS):
        new_point = point + length * direction
        new_value, new_gradient = objective(new_point)
        if new_value <= value + _ENOUGH * length * slope:
            return new_point, new_value, new_gradient
        # The minimum of the parabola through the known values, kept within bounds.
        bend = new_value - value - length * slope
        best = -slope * length * length / (2 * bend) if bend > 0 else 0.0
        length = min(max(best, 0.1 * length), 0.5 * length)
    return None
