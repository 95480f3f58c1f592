"""Neighbours by float32 products, as fast as a matrix product."""

import numpy as np

from ssl_zoo.errors import UserError
from ssl_zoo.evaluators.search.flat import (
    BLOCK_BYTES,
    Best,
    Floats,
    Ids,
    chunks,
    flat_search,
    largest,
    unit_rows,
)


def nearest_by_product(
    train: Floats, test: Floats, k: int, chunk_bytes: int, *, unit: bool
) -> tuple[Floats, Ids]:
    """Returns similarities and indices, `(Q, k)`; see `nearest`.

    Args:
        unit: whether to compute cosines instead of dot products.

    Raises:
        UserError: features are so long that their products overflow.
    """
    queries = unit_rows(test) if unit else np.ascontiguousarray(test, dtype=np.float32)
    wanted = min(k + 1, len(train))  # one more, to detect ties for the last place
    best = Best(len(queries), wanted)
    for start, chunk in chunks(train, chunk_bytes, unit=unit):
        found, places = flat_search(queries, chunk, min(wanted, len(chunk)), "product")
        best.add(found, places + start)
        del chunk, found, places  # before the next chunk is made
    if not np.isfinite(best.sims).all() or (best.ids < 0).any():
        raise UserError(
            "features are so long that their products overflow; score them by cosine, such as with "
            "protocol 'dino'"
        )
    sims, ids = best.sims[:, :k].copy(), best.ids[:, :k].copy()
    if wanted > k:
        rows = np.flatnonzero(best.sims[:, k - 1] == best.sims[:, k])
        if len(rows):
            sims[rows], ids[rows] = _scan(train, queries[rows], k, chunk_bytes, unit=unit)
    return sims, ids


def _scan(
    train: Floats, queries: Floats, k: int, chunk_bytes: int, *, unit: bool
) -> tuple[Floats, Ids]:
    """Finds neighbours from all products, because faiss breaks ties arbitrarily."""
    best = [Best(len(part), k) for part in _parts(queries, train, chunk_bytes)]
    for start, chunk in chunks(train, chunk_bytes, unit=unit):
        for one, part in zip(best, _parts(queries, train, chunk_bytes), strict=True):
            sims, places = largest(part @ chunk.T, min(k, len(chunk)))
            one.add(sims, places + start)
        del chunk
    return np.concatenate([one.sims for one in best]), np.concatenate([one.ids for one in best])


def _parts(queries: Floats, train: Floats, chunk_bytes: int) -> list[Floats]:
    """Splits test features so that a block of similarities, and the selection, stays small."""
    columns = min(len(train), max(1, chunk_bytes // (4 * train.shape[1])))
    step = max(1, BLOCK_BYTES // (16 * columns))
    return [queries[start : start + step] for start in range(0, len(queries), step)]
