"""Exact neighbours by products in bfloat16: fast on processors and GPUs that support it.

Products of rounded features select candidates, float64 decides between them, and a bound on the
rounding error shows whether other features could be among the nearest. Test features for which the
bound cannot exclude this are searched in float32.

The bound: with x = x' + a and y = y' + b, where x' and y' are in bfloat16, x.y - x'.y' = a.y +
x'.b, which is at most |a| |y| + |x'| |b| (Cauchy-Schwarz). The lengths of a and b are measured.
Summing D products in float32 adds at most D 2^-24 |x'| |y'|, in any order, and rounding the sum to
bfloat16 adds 2^-9 of it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_zoo.evaluators.search.flat import Best, Floats, Ids, in_order, unit_rows
from ssl_zoo.evaluators.search.mapped import let_go, take
from ssl_zoo.evaluators.search.sharing import Bank, over_ranks

BLOCK_NUMBERS = 1 << 24
"""Products in memory at a time."""
LOOKED_AT = 1 << 19
"""Products examined one by one at a time."""
GROUP = 32
"""Features per group; only the largest product of a group is examined first."""
MORE = 32
"""Groups to examine in addition to two per requested neighbour."""
PAIR_NUMBERS = 1 << 20
"""Values of features multiplied in float64 at a time."""
ROUNDING = 1.01 * 2.0**-9
"""Relative rounding error of a sum in bfloat16."""


@dataclass
class _Rounded:
    """Features, their bfloat16 rounding, and its error.

    Attributes:
        values: the original features, `(N, D)`.
        norms: divisors of the features, `(N, 1)` float64; 1 for dot products.
        rounded: bfloat16, zero-padded to a whole number of groups.
        length: norm of each feature, `(N,)` float64.
        error: norm of each feature's rounding error, `(N,)` float64.
    """

    values: Floats
    norms: Tensor
    rounded: Tensor
    length: Tensor
    error: Tensor

    @classmethod
    def of(cls, values: Floats, device: torch.device, *, unit: bool, group: int = 1) -> "_Rounded":
        n, d = values.shape
        padded = torch.zeros((-(-n // group) * group, d), dtype=torch.bfloat16, device=device)
        length, error = np.empty(n), torch.empty(n, dtype=torch.float64, device=device)
        step = max(1, PAIR_NUMBERS // d)
        for start in range(0, n, step):
            rows = slice(start, min(start + step, n))
            part = values[rows]
            length[rows] = np.sqrt(np.einsum("nd,nd->n", part, part, dtype=np.float64))
            exact = torch.from_numpy(unit_rows(part) if unit else np.array(part)).to(device)
            padded[rows] = exact
            error[rows] = torch.linalg.vector_norm(exact - padded[rows], dim=1).double()
            let_go(values)
        norms = torch.from_numpy(np.where(length == 0, 1, length))[:, None].to(device)
        lengths = torch.ones_like(error) if unit else torch.from_numpy(length).to(device)
        if not unit:
            norms = torch.ones_like(norms)
        # Norms and normalised features are themselves rounded to float32.
        return cls(values, norms, padded, lengths, error * (1 + 1e-5) + 2.0**-22 * lengths)

    def exact(self, places: Tensor) -> Tensor:
        """Returns the features at `places` in float64, `(P, D)`."""
        if self.values.flags.writeable:  # otherwise torch warns
            found = torch.from_numpy(self.values).index_select(0, places.cpu())
        else:
            found = torch.from_numpy(take(self.values, places.cpu().numpy()))
        features: Tensor = found.to(self.norms.device, torch.float64)
        return features / self.norms[places]


def nearest_reranked(bank: Bank, test: Floats, k: int) -> tuple[Floats, Ids, Ids]:
    """Finds neighbours by cosine or dot product; see `nearest`.

    Similarities are float64 sums rounded to float32.

    Returns:
        Similarities and indices, `(Q, k)`, and the rows for which the bound is not tight enough.
    """
    best = over_ranks(rounded_pass, bank, np.ascontiguousarray(test, dtype=np.float32), k)
    best.unsure |= ~np.isfinite(best.sims).all(axis=1)  # products that overflow
    return best.sims, best.ids, np.flatnonzero(best.unsure)


def rounded_pass(bank: Bank, queries: Floats, size: int) -> Best:
    """Returns the nearest features by exact products, and marks those that the bound leaves unsure."""
    with _float32_sums() as device:
        return _nearest(bank, queries, size, device)


@contextmanager
def _float32_sums() -> Iterator[torch.device]:
    """Yields the device, with bfloat16 products summed in float32, as the bound requires."""
    settings = torch.backends.cuda.matmul
    before = settings.allow_bf16_reduced_precision_reduction
    settings.allow_bf16_reduced_precision_reduction = False
    try:
        yield torch.device("cuda" if torch.cuda.is_available() else "cpu")
    finally:
        settings.allow_bf16_reduced_precision_reduction = before


def _nearest(bank: Bank, test: Floats, k: int, device: torch.device) -> Best:
    queries = _Rounded.of(test, device, unit=bank.unit)
    best, train = Best(len(test), k), bank.values
    rows = max(1, bank.chunk_bytes // (2 * train.shape[1]))
    for start in range(0, len(train), rows):
        values = train[start : start + rows]
        chunk = _Rounded.of(values, device, unit=bank.unit, group=GROUP)
        looked_at = min(len(values), GROUP * (2 * k + MORE))
        step = max(1, min(len(test), BLOCK_NUMBERS // len(values), LOOKED_AT // looked_at))
        # Allocated once, because new memory costs a third of the time of the product.
        room = torch.empty(step * len(chunk.rounded), dtype=torch.bfloat16, device=device)
        found = [
            _candidates(queries, chunk, slice(first, first + step), best, k, room)
            for first in range(0, len(test), step)
        ]
        sims, places, open_ended = (np.concatenate(column) for column in zip(*found, strict=True))
        best.unsure |= open_ended
        best.add(sims, places + bank.start + start)
        let_go(train)
    return best


def _candidates(
    queries: _Rounded, chunk: _Rounded, rows: slice, best: Best, k: int, room: Tensor
) -> tuple[Floats, Ids, NDArray[np.bool_]]:
    """Returns exact similarities and positions of the nearest in a chunk, in order, and whether
    features not examined could be among them, for a slice of test features."""
    k = min(k, len(chunk.values))
    top, places, level, rest = _largest_groups(queries.rounded[rows], chunk, k, room)
    slack = _slack(queries, chunk, rows)[:, None]
    floor = level.double() - slack - ROUNDING * level.double().abs()
    if best.sims.shape[1] == best.size:
        floor = torch.maximum(floor, torch.from_numpy(best.sims[rows, -1:]).to(floor))
    # If a product is -inf (padding), this is NaN, which compares as not greater.
    most, rest = (one.double() + slack + ROUNDING * one.double().abs() for one in (top, rest))
    open_ended = rest >= floor
    near = (most >= floor) & ~open_ended
    mine, column = near.nonzero(as_tuple=True)
    found = places[mine, column]
    packed = near.cumsum(dim=1)[mine, column] - 1
    shape = (len(top), max(k, int(near.sum(dim=1).max())))
    sims = torch.full(shape, -torch.inf, device=top.device)
    ids = torch.zeros(shape, dtype=torch.int64, device=top.device)
    sims[mine, packed] = _exact(queries, chunk, mine + rows.start, found)
    ids[mine, packed] = found
    ordered = in_order(sims.cpu().numpy(), ids.cpu().numpy())
    return ordered[0][:, :k].copy(), ordered[1][:, :k].copy(), open_ended[:, 0].cpu().numpy()


def _largest_groups(
    queries: Tensor, chunk: _Rounded, k: int, room: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns products and positions of the groups with the largest products, `(B, M)`; a product
    that `k` features reach, `(B, 1)`; and the largest of any other feature, -inf if there is none,
    `(B, 1)`.

    Selecting groups is far faster than selecting among all products.
    """
    n, wanted = len(chunk.values), 2 * k + MORE
    size = GROUP if n > 4 * GROUP * wanted else 1
    n_groups = len(chunk.rounded) // GROUP if size > 1 else n
    padded = chunk.rounded[: size * n_groups]
    products = room[: len(queries) * len(padded)].view(len(queries), len(padded))
    torch.mm(queries, padded.T, out=products)
    products[:, n:] = -torch.inf
    # A group takes strided features, so maxima are over adjacent memory.
    maxima = products.view(len(queries), size, n_groups).amax(dim=1)
    levels, groups = maxima.topk(min(wanted + 1, n_groups))
    level, rest = levels[:, k - 1 : k], torch.full_like(levels[:, :1], -torch.inf)
    if n_groups > wanted:
        groups, rest = groups[:, :-1], levels[:, -1:]
    members = torch.arange(size, device=groups.device) * n_groups
    places = (groups[:, :, None] + members).flatten(1)
    return products.gather(1, places), places, level, rest


def _slack(queries: _Rounded, chunk: _Rounded, rows: slice) -> Tensor:
    """Returns a bound on the error of products, `(B,)`, without the final rounding."""
    d = queries.values.shape[1]
    length, error = queries.length[rows], queries.error[rows]
    # Processors may flush products below 2^-126 to 0; 16 covers the rounding of lengths and results.
    sums = (d + 16) * (2.0**-24 * 1.01 * length * chunk.length.max() + 2.0**-124)
    slack: Tensor = error * chunk.length.max() + 1.01 * length * chunk.error.max() + sums
    return slack


def _exact(queries: _Rounded, chunk: _Rounded, rows: Tensor, places: Tensor) -> Tensor:
    """Returns dot products of pairs, summed in float64, `(P,)` float32."""
    found = torch.empty(len(rows), device=rows.device)
    step = max(1, PAIR_NUMBERS // queries.values.shape[1])
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        pairs = torch.linalg.vecdot(queries.exact(rows[part]), chunk.exact(places[part]))
        found[part] = pairs.float()
    return found
