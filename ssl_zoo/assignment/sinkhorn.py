"""Sinkhorn-Knopp codes: soft assignments of a batch that use all prototypes equally.

SwAV (Caron et al., 2020, arXiv:2006.09882), section 3.1 and equation 3, after Cuturi (2013,
arXiv:1306.0895). Each iteration normalises prototypes, then samples, to equal mass; it ends with
samples, so each sample's code sums to one.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ssl_zoo import distributed

_CHUNK_ELEMENTS = 1 << 18
"""Scores per chunk on a CPU: a megabyte of float32, which fits into the cache."""
_WEAK = 1e-12
"""A sample whose largest kernel entry is below this is shifted separately."""
_FOLD_EVERY = 4
"""Iterations between folding the scales into the kernel: an iteration changes a scale by at most a
factor of the global batch size or the number of prototypes, and float32 has room for a few of those."""


@torch.no_grad()
def sinkhorn(
    scores: Tensor | Sequence[Tensor],
    *,
    epsilon: float,
    n_iterations: int = 3,
    n_codes: int | None = None,
) -> Tensor:
    """Returns codes `(n_codes, K)`: rows sum to one, columns to nearly equal masses over all ranks.

    All ranks solve one problem together; they may have different numbers of rows. With gradient
    accumulation, each batch is a separate problem.

    Computed in float32 regardless of the type of the scores and of autocast (float64 stays float64).
    Exponentials are taken once, of scores minus the maximum of their prototype; everything else is
    products of that kernel with vectors. No prototype can underflow, for any epsilon. A sample that
    would underflow, because it is far below all maxima, is shifted to its own maximum: after the
    first prototype normalisation, a factor on a sample has no effect.

    Args:
        scores: `(B, K)`, similarity of samples and prototypes; several tensors are treated as
            concatenated, without a copy.
        epsilon: entropy regularisation: codes become one-hot near 0 and uniform when it is large.
        n_iterations: number of iterations, each of which normalises prototypes, then samples.
        n_codes: number of codes to return, those of the first rows (a queue comes after the
            batch); None returns all.

    Raises:
        ValueError: an argument is out of bounds, or shapes do not match.
    """
    parts = [scores] if isinstance(scores, Tensor) else list(scores)
    n_codes = _checked(parts, epsilon=epsilon, n_iterations=n_iterations, n_codes=n_codes)
    with torch.autocast(parts[0].device.type, enabled=False):
        kernel, scale = _first_scale(parts, inverse_epsilon=1 / epsilon)
        for done in range(1, n_iterations):
            if done % _FOLD_EVERY == 0:
                _fold_(kernel, scale)
                scale = torch.ones_like(scale)
            scale = _next_scale(kernel, scale)
        codes = _fold_(kernel[:n_codes], scale)
    return codes if n_codes == len(kernel) else codes.clone()  # the clone frees the rest


def _checked(
    parts: list[Tensor], *, epsilon: float, n_iterations: int, n_codes: int | None
) -> int:
    shapes = [tuple(part.shape) for part in parts]
    if not parts or any(len(shape) != 2 or shape[1] != shapes[0][-1] for shape in shapes):
        raise ValueError(f"scores must be (B, K) with one K, not {shapes}")
    if not epsilon > 0:
        raise ValueError(f"epsilon of {epsilon} must be above 0")
    if n_iterations < 1:
        raise ValueError(f"n_iterations of {n_iterations} must be 1 or more")
    n_rows = sum(shape[0] for shape in shapes)
    if n_codes is not None and not 0 <= n_codes <= n_rows:
        raise ValueError(
            f"n_codes of {n_codes} must lie between 0 and the {n_rows} rows of scores"
        )
    return n_rows if n_codes is None else n_codes


def _first_scale(parts: list[Tensor], *, inverse_epsilon: float) -> tuple[Tensor, Tensor]:
    """Returns the kernel `(B, K)` and the scale `(K,)` that gives all prototypes equal mass.

    Powers of two, since `exp2` takes a third of the time of `exp` on a CPU.
    """
    factor = inverse_epsilon / math.log(2)
    n_rows, n_prototypes = sum(map(len, parts)), parts[0].shape[1]
    dtype = torch.promote_types(parts[0].dtype, torch.float32)
    kernel = parts[0].new_empty(n_rows, n_prototypes, dtype=dtype)
    size = _rows_of_a_chunk(kernel)
    chunks = [chunk for part in parts if len(part) for chunk in torch.split(part, size)]

    peak = kernel.new_full((n_prototypes,), -math.inf)
    for chunk in chunks:
        torch.maximum(peak, chunk.amax(dim=0), out=peak)
    distributed.all_reduce(peak, "max")

    mass = kernel.new_zeros(n_prototypes)
    for chunk, out in zip(chunks, torch.split(kernel, [len(c) for c in chunks]), strict=True):
        # Differences first: they are exact where precision matters, so sharp logits lose no digits.
        torch.sub(chunk, peak, out=out).mul_(factor).exp2_()
        mass += out.sum(dim=0)
        # Always on an accelerator: checking there would force a synchronisation.
        if out.device.type != "cpu" or bool((out.amax(dim=1) < _WEAK).any()):
            torch.sub(chunk, peak, out=out)
            out.sub_(out.amax(dim=1, keepdim=True)).mul_(factor).exp2_()
    return kernel, distributed.all_reduce(mass).reciprocal_()


def _next_scale(kernel: Tensor, scale: Tensor) -> Tensor:
    """Normalises samples, then prototypes over all ranks; returns the new scale of prototypes."""
    mass = torch.zeros_like(scale)
    for chunk in torch.split(kernel, _rows_of_a_chunk(kernel)):
        mass += torch.mv(chunk.t(), torch.mv(chunk, scale).reciprocal_())
    return distributed.all_reduce(mass).reciprocal_()


def _fold_(kernel: Tensor, scale: Tensor) -> Tensor:
    """Scales prototypes, then samples to a sum of one, in place."""
    for chunk in torch.split(kernel, _rows_of_a_chunk(kernel)):
        reach = torch.mv(chunk, scale).reciprocal_()
        chunk.mul_(scale).mul_(reach[:, None])
    return kernel


def _rows_of_a_chunk(kernel: Tensor) -> int:
    if kernel.device.type != "cpu":
        return max(1, len(kernel))
    return max(1, _CHUNK_ELEMENTS // max(1, kernel.shape[1]))
