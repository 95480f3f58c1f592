"""SIGReg, the regulariser of LeJEPA (Balestriero and LeCun, 2025, arXiv:2511.08544): a test of whether
embeddings are normally distributed, along random directions.

The test is that of Epps and Pulley (1983, "A test for normality based on the empirical characteristic
function"), with weight `exp(-t ** 2 / 2)`; the integral is a sum over knots. Written from the formulas.
"""

import math

import torch
from torch import Tensor

from ssl_zoo import distributed


def random_directions(dim: int, count: int, *, generator: torch.Generator) -> Tensor:
    """Returns directions that are uniform on the sphere, unit columns `(dim, count)`."""
    found = torch.randn(dim, count, generator=generator)
    unit: Tensor = found / found.norm(dim=0)
    return unit


def sigreg(
    embeddings: Tensor, directions: Tensor, *, knots: int = 17, limit: float = 3.0
) -> Tensor:
    """Returns the statistic of Epps and Pulley, mean over views and directions, a scalar.

    For N values h along a direction, with the empirical characteristic function f(t), it is N times the
    integral over all t of `|f(t) - exp(-t ** 2 / 2)| ** 2 * exp(-t ** 2 / 2)`: for standard normal values
    1.06 on average, for any N, and proportional to N for others. N counts the images of all ranks, whose
    characteristic functions are averaged with gradient. Computed in float32 or float64.

    Args:
        embeddings: `(V, B, d)`, not normalised.
        directions: unit columns `(d, M)`, the same on all ranks.
        knots: number of knots of the trapezoidal rule in `[0, limit]`; the other half is symmetric.
        limit: where the integral ends, on both sides.
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        z = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
        h = z @ directions.to(z)  # (V, B, M)
        n_images = z.shape[1] * distributed.world_size()
        step = limit / (knots - 1)
        places = [knot * step for knot in range(1, knots)]  # at 0 both functions are 1
        normal = [math.exp(-t * t / 2) for t in places]
        sums = [torch.stack([(t * h).cos().sum(1), (t * h).sin().sum(1)]) for t in places]
        means = distributed.sum_over_ranks(torch.stack(sums)) / n_images  # (knots - 1, 2, V, M)
        total = h.new_zeros(())
        for number, ((real, imaginary), gaussian) in enumerate(zip(means, normal, strict=True), 2):
            weight = step * gaussian * (1 if number == knots else 2)
            total = total + weight * ((real - gaussian) ** 2 + imaginary**2).mean()
        return n_images * total
