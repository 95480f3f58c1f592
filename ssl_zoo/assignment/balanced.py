"""Sinkhorn-Knopp over a whole data set: one prototype per image, equally many images each.

SeLa (Asano et al., 2020, arXiv:1911.05371), equation 5 and section 3.1, after Cuturi (2013,
arXiv:1306.0895). The full matrix of scores is never stored: iterations only pass on one price per
prototype (its dual variable), in units of scores. An image is assigned to the prototype with the largest
score minus price.
"""

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from ssl_zoo import distributed

_CHUNK_ELEMENTS = {"cpu": 1 << 18}
"""Scores in memory at a time, by device type; a megabyte of float32 fits into a CPU's cache."""
_CHUNK_ELSEWHERE = 1 << 26
_ITERATIONS_PER_LOOK = {"cpu": 1}
"""Iterations between looks at whether prices are balanced, by device type."""
_ITERATIONS_PER_LOOK_ELSEWHERE = 8  # the host waits for the device at each
_HELD_ELEMENTS = 1 << 25
"""Scores kept between iterations, 128 MB of float32; larger problems recompute them."""


@torch.no_grad()
def balanced_assignment(
    embeddings: Tensor,
    prototypes: Tensor,
    *,
    epsilon: float,
    tolerance: float = 0.01,
    max_iterations: int = 200,
) -> Tensor:
    """Returns the prototype of each of this rank's embeddings, `(n,)`; arguments as in `prices`."""
    with torch.autocast(embeddings.device.type, enabled=False):
        found = prices(
            embeddings,
            prototypes,
            epsilon=epsilon,
            tolerance=tolerance,
            max_iterations=max_iterations,
        )
        chosen = [(scores - found).max(dim=1)[1] for scores in _Chunks(embeddings, prototypes)]
        return torch.cat(chosen) if chosen else embeddings.new_empty(0, dtype=torch.long)


@torch.no_grad()
def prices(
    embeddings: Tensor,
    prototypes: Tensor,
    *,
    epsilon: float,
    tolerance: float,
    max_iterations: int,
) -> Tensor:
    """Returns the prices at which all prototypes have equal mass, `(K,)`, equal on all ranks.

    With scores s, codes are softmax((s - price) / epsilon), which sum to one for each embedding; on
    convergence those of each prototype sum to N / K over all ranks.

    No epsilon causes over- or underflow: a price starts at the largest score of its prototype, so at
    least one embedding gives it a mass of 1 / K or more, and every later price keeps its mass above
    1 / (K N).

    Args:
        embeddings: this rank's, `(n, d)`.
        prototypes: `(K, d)`, equal on all ranks.
        epsilon: entropy regularisation, in units of scores; codes become one-hot near 0.
        tolerance: mean deviation of a prototype's mass from its fair share, relative to it, at which
            to stop.
        max_iterations: number of iterations after which to stop in any case.

    Raises:
        ValueError: epsilon is not positive.
    """
    if not epsilon > 0:
        raise ValueError(f"epsilon of {epsilon} must be above 0")
    dtype = torch.promote_types(embeddings.dtype, torch.float32)
    price = prototypes.new_full((len(prototypes),), -math.inf, dtype=dtype)
    chunks = _Chunks(embeddings, prototypes)
    for scores in chunks:
        torch.maximum(price, scores.amax(dim=0), out=price)
    distributed.all_reduce(price, "max")
    n = distributed.all_reduce(price.new_tensor(float(len(embeddings)), dtype=torch.float64))
    fair = float(n) / len(prototypes)
    every = _ITERATIONS_PER_LOOK.get(price.device.type, _ITERATIONS_PER_LOOK_ELSEWHERE)
    balanced = torch.zeros((), dtype=torch.bool, device=price.device)
    for iteration in range(max_iterations):
        share = _masses(chunks, price, epsilon=epsilon) / fair
        # Prices stay once balanced, so that looking less often changes none of them.
        balanced = balanced | ((share - 1).abs().mean() <= tolerance)
        if iteration % every == 0 and bool(balanced):
            break
        price = torch.where(balanced, price, price + epsilon * share.log())
    return price


def _masses(chunks: Iterable[Tensor], price: Tensor, *, epsilon: float) -> Tensor:
    """Returns the sum of the codes of each prototype over all ranks, `(K,)`."""
    mass = torch.zeros_like(price)
    factor = 1 / (epsilon * math.log(2))  # exp2 takes a third of the time of exp on a CPU
    for scores in chunks:
        codes = scores - price  # differences first: they are exact where precision matters
        codes.sub_(codes.amax(dim=1, keepdim=True)).mul_(factor).exp2_()
        mass += torch.mv(codes.t(), codes.sum(dim=1).reciprocal_())
    return distributed.all_reduce(mass)


class _Chunks:
    """Iterates repeatedly over scores `(B, K)` of a few embeddings, in float32 or higher."""

    def __init__(self, embeddings: Tensor, prototypes: Tensor) -> None:
        dtype = torch.promote_types(embeddings.dtype, torch.float32)
        self._transposed = prototypes.to(dtype).t()
        elements = _CHUNK_ELEMENTS.get(embeddings.device.type, _CHUNK_ELSEWHERE)
        self._parts = torch.split(embeddings, max(1, elements // len(prototypes)))
        few = len(embeddings) * len(prototypes) <= _HELD_ELEMENTS
        self._held = list(self._computed()) if few else None

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self._held) if self._held is not None else self._computed()

    def _computed(self) -> Iterator[Tensor]:
        for part in self._parts:
            if len(part):
                yield part.to(self._transposed.dtype) @ self._transposed
