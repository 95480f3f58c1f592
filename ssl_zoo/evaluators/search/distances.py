"""Neighbours by Euclidean distance: candidates from float32 products, decided in float64.

|x - y|^2 = |x|^2 + |y|^2 - 2 x.y is as fast as a matrix product, but loses the digits of small
distances between long features. Therefore more candidates than needed are found that way, their
distances are recomputed, and an error bound shows whether other features could be nearer. If so,
all distances of that test feature are computed in float64.
"""

import numpy as np
from numpy.typing import NDArray

from ssl_zoo.errors import UserError
from ssl_zoo.evaluators.search.flat import (
    BLOCK_BYTES,
    Best,
    Floats,
    Ids,
    chunks,
    flat_search,
    in_order,
    largest,
    unit_rows,
)
from ssl_zoo.evaluators.search.mapped import let_go, take

Doubles = NDArray[np.float64]

CENTRE_ROWS = 4096
"""Number of train features whose mean is the origin; any origin is correct, a central one is precise."""


def nearest_by_distance(
    train: Floats, test: Floats, k: int, chunk_bytes: int, *, unit: bool
) -> tuple[Floats, Ids]:
    """Returns negated distances and indices, `(Q, k)`; see `nearest`.

    Raises:
        UserError: features are so long that their squares overflow.
    """
    step = -(-len(train) // CENTRE_ROWS)
    centre = _unit(take(train, np.arange(0, len(train), step)), unit).mean(
        axis=0, dtype=np.float64
    )
    test = _unit(test, unit)
    queries = _centred(test, centre)
    wanted = min(len(train), k + max(8, k // 4))
    best, longest = Best(len(test), wanted), 0.0
    for start, chunk in chunks(train, chunk_bytes // 2, unit=unit):
        moved = _centred(chunk, centre)
        let_go(train)
        longest = max(longest, float(_norms(moved).max()))
        _refuse_overflow(longest, queries)
        squares, places = flat_search(queries, moved, min(wanted, len(chunk)), "distance")
        best.add(-squares, places + start)
        del chunk, moved, squares, places  # before the next chunk is made
    sims, ids = _again(train, test, best.ids, unit=unit)
    sims, ids = sims[:, :k].copy(), ids[:, :k].copy()
    if wanted < len(train):
        # Sums of D products of float32 have an error of at most D 2^-24 |x| |y|, in any order, and
        # a product of small numbers of 2^-126; the factor 2 covers the rounding of centred
        # features and of the sum of the three terms.
        d = test.shape[1] + 16
        error = 2 * d * (2.0**-24 * (_norms(queries) + longest) ** 2 + 2.0**-126)
        missed = -best.sims[:, -1].astype(np.float64) - error  # no other feature is nearer
        rows = np.flatnonzero(sims[:, -1].astype(np.float64) ** 2 * (1 + 2.0**-20) >= missed)
        if len(rows):
            ids[rows] = _scan(train, test[rows], centre, k, chunk_bytes, unit=unit)
            sims[rows], ids[rows] = _again(train, test[rows], ids[rows], unit=unit)
    return sims, ids


def _unit(values: Floats, unit: bool) -> Floats:
    return unit_rows(values) if unit else values


def _centred(values: Floats, centre: Doubles) -> Floats:
    moved = np.empty(values.shape, dtype=np.float32)
    np.subtract(values, centre, out=moved, casting="same_kind")
    return moved


def _norms(values: NDArray[np.floating]) -> Doubles:
    norms: Doubles = np.sqrt(np.einsum("nd,nd->n", values, values, dtype=np.float64))
    return norms


def _refuse_overflow(longest: float, queries: Floats) -> None:
    if max(longest, float(_norms(queries).max())) > 2.0**62:
        raise UserError(
            f"features have norms up to {longest:.0e}, too large for Euclidean distances; score them "
            "by cosine, such as with protocol 'dino'"
        )


def _again(train: Floats, test: Floats, ids: Ids, *, unit: bool) -> tuple[Floats, Ids]:
    """Returns negated distances of candidates from differences in float64, in order."""
    sims = np.empty(ids.shape, dtype=np.float32)
    step = max(1, BLOCK_BYTES // (16 * ids.shape[1] * test.shape[1]))
    for start in range(0, len(test), step):
        rows = slice(start, start + step)
        found = _unit(take(train, ids[rows].ravel()), unit).reshape(*ids[rows].shape, -1)
        gaps = np.subtract(found, test[rows, None], dtype=np.float64)
        sims[rows] = -np.sqrt(np.einsum("qmd,qmd->qm", gaps, gaps))
    return in_order(sims, ids)


def _scan(
    train: Floats, test: Floats, centre: Doubles, k: int, chunk_bytes: int, *, unit: bool
) -> Ids:
    """Returns the nearest by all distances in float64, `(Q, k)`.

    If rounding of the products could decide the last place, differences are used.
    """
    queries = test - centre
    best, longest = _by_products(train, queries, centre, k, chunk_bytes, unit=unit)
    noise = _noise(_norms(queries) ** 2, longest**2, queries.shape[1])
    doubtful = np.flatnonzero(best.sims[:, -1].astype(np.float64) ** 2 * 2.0**-22 <= noise)
    if len(doubtful):
        best.ids[doubtful] = _by_differences(
            train, queries[doubtful], centre, k, chunk_bytes, unit=unit
        )
    return best.ids


def _by_differences(
    train: Floats, queries: Doubles, centre: Doubles, k: int, chunk_bytes: int, *, unit: bool
) -> Ids:
    from scipy.spatial.distance import cdist

    best = Best(len(queries), k)
    for start, chunk in chunks(train, chunk_bytes // 3, unit=unit):
        moved = chunk - centre
        step = max(1, BLOCK_BYTES // (32 * len(chunk)))
        found = [
            largest(-cdist(queries[first : first + step], moved), min(k, len(chunk)))
            for first in range(0, len(queries), step)
        ]
        sims, places = (np.concatenate(column) for column in zip(*found, strict=True))
        best.add(sims, places + start)
        del chunk, moved
    return best.ids


def _by_products(
    train: Floats, queries: Doubles, centre: Doubles, k: int, chunk_bytes: int, *, unit: bool
) -> tuple[Best, float]:
    """Returns the nearest by float64 products, and the largest norm of a train feature."""
    own = _norms(queries)[:, None] ** 2
    best, longest = Best(len(queries), k), 0.0
    for start, chunk in chunks(train, chunk_bytes // 3, unit=unit):
        moved = chunk - centre
        other = _norms(moved) ** 2
        longest = max(longest, float(other.max()) ** 0.5)
        step = max(1, BLOCK_BYTES // (32 * len(chunk)))
        found = [
            largest(_all(queries[rows], moved, own[rows], other), min(k, len(chunk)))
            for rows in (slice(first, first + step) for first in range(0, len(queries), step))
        ]
        sims, places = (np.concatenate(column) for column in zip(*found, strict=True))
        best.add(sims, places + start)
        del chunk, moved
    return best, longest


def _noise(own: Doubles, other: Doubles | float, d: int) -> Doubles:
    """Returns a bound on the rounding error of squared distances."""
    found: Doubles = (d + 16) * 2.0**-52 * (own + other)
    return found


def _all(queries: Doubles, moved: Doubles, own: Doubles, other: Doubles) -> Floats:
    """Returns negated distances; those within rounding error are 0."""
    squares = own + other - 2 * (queries @ moved.T)
    squares[squares <= _noise(own, other, queries.shape[1])] = 0
    return -np.sqrt(squares).astype(np.float32)
