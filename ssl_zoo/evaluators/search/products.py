"""Neighbours by float32 products, as fast as a matrix product."""

import numpy as np

from ssl_zoo.errors import UserError
from ssl_zoo.evaluators.search.flat import (
    BLOCK_BYTES,
    SCANNED_ROWS,
    Best,
    Floats,
    Ids,
    flat_search,
    largest,
    unit_rows,
)
from ssl_zoo.evaluators.search.sharing import Bank, over_ranks


def nearest_by_product(bank: Bank, test: Floats, k: int) -> tuple[Floats, Ids]:
    """Returns similarities and indices, `(Q, k)`; see `nearest`.

    Raises:
        UserError: features are so long that their products overflow.
    """
    queries = unit_rows(test) if bank.unit else np.ascontiguousarray(test, dtype=np.float32)
    wanted = min(k + 1, len(bank))  # one more, to detect ties for the last place
    best = over_ranks(flat_pass, bank, queries, wanted)
    if not np.isfinite(best.sims).all() or (best.ids < 0).any():
        raise UserError(
            "features are so long that their products overflow; score them by cosine, such as with "
            "protocol 'dino'"
        )
    sims, ids = best.sims[:, :k].copy(), best.ids[:, :k].copy()
    if wanted > k:
        rows = np.flatnonzero(best.sims[:, k - 1] == best.sims[:, k])
        if len(rows):
            scanned = over_ranks(scan_pass, bank, queries[rows], k)
            sims[rows], ids[rows] = scanned.sims, scanned.ids
    return sims, ids


def flat_pass(bank: Bank, queries: Floats, size: int) -> Best:
    """Returns the features of largest products; which of those tied for the last place, is arbitrary."""
    best = Best(len(queries), size)
    for start, chunk in bank.chunks():
        found, places = flat_search(queries, chunk, min(size, len(chunk)), "product")
        best.add(found, places + start)
        del chunk, found, places  # before the next chunk is made
    return best


def scan_pass(bank: Bank, queries: Floats, size: int) -> Best:
    """Returns the features of largest products from all products, the lowest indices among ties."""
    step = max(1, BLOCK_BYTES // (16 * SCANNED_ROWS))
    parts = [queries[start : start + step] for start in range(0, len(queries), step)]
    best = [Best(len(part), size) for part in parts]
    for start, chunk in bank.chunks():
        for first in range(0, len(chunk), SCANNED_ROWS):
            rows = chunk[first : first + SCANNED_ROWS]
            for one, part in zip(best, parts, strict=True):
                sims, places = largest(part @ rows.T, min(size, len(rows)))
                one.add(sims, places + start + first)
        del chunk
    return Best.of(
        np.concatenate([one.sims for one in best]), np.concatenate([one.ids for one in best])
    )
