"""Exact nearest neighbours within a memory budget."""

from typing import Literal

import numpy as np

from ssl_zoo.evaluators.search.distances import nearest_by_distance
from ssl_zoo.evaluators.search.flat import BLOCK_BYTES, Floats, Ids, unit_rows
from ssl_zoo.evaluators.search.mapped import let_go
from ssl_zoo.evaluators.search.products import nearest_by_product

__all__ = ["Metric", "SearchPrecision", "nearest", "unit_rows"]

Metric = Literal["cosine", "dot", "euclidean"]
SearchPrecision = Literal["fp32", "bf16"]

CHUNK_BYTES = 64 << 20
"""Bytes of train features prepared for the search at a time, without a budget."""
LARGEST_CHUNK_BYTES = 256 << 20
"""The same if the budget allows more, which would not be faster."""
OVERHEAD_BYTES: dict[SearchPrecision, int] = {"fp32": 48 << 20, "bf16": 112 << 20}
"""Bytes used by the libraries at a time: faiss, for similarities of 4096 test and 1024 train
features, and heaps; torch, for features in its own layout and values examined one by one."""
RERANKED_NEIGHBOURS = 64
"""Largest number of neighbours for which products in bfloat16 are faster."""


def nearest(
    train: Floats,
    test: Floats,
    *,
    k: int,
    metric: Metric = "cosine",
    unit: bool = False,
    precision: SearchPrecision = "fp32",
    memory_mb: int | None = None,
) -> tuple[Floats, Ids]:
    """Finds the `k` train features that are most similar to each test feature.

    Neighbours are ordered by decreasing similarity, then by increasing index; the lowest indices
    win ties for the last place. Cosines and dot products are float32 sums, whose last bits may
    differ between equal features; distances are computed in float64 and rounded to float32, and
    are 0 between equal features.

    Train features are read in order, chunk by chunk, once per block of test features that fits the
    budget. If they are a memory map, their memory is released after use.

    Args:
        train: `(N, D)`.
        test: `(Q, D)`.
        k: number of neighbours; above `N`, all `N` are returned.
        metric: `cosine`, `dot`, or `euclidean`.
        unit: whether distances are between L2-normalised features.
        precision: precision of the products that select candidates. With `bf16`, cosines and dot
            products are rounded float64 sums, and neighbours are the same except where float32
            cannot distinguish them; distances, and a `k` above 64, are always searched in float32.
        memory_mb: memory limit in MB, in addition to `train`, `test` and the result.

    Returns:
        Similarities and indices, `(Q, min(k, N))`; distances are negated.

    Raises:
        UserError: features are so long that similarities overflow.
    """
    k = min(k, len(train))
    rows, chunk_bytes = _split_budget(test.shape, k, metric, precision, memory_mb)
    sims = np.empty((len(test), k), dtype=np.float32)
    ids = np.empty((len(test), k), dtype=np.int64)
    for start in range(0, len(test), rows):
        part = slice(start, start + rows)
        if metric == "euclidean":
            sims[part], ids[part] = nearest_by_distance(
                train, test[part], k, chunk_bytes, unit=unit
            )
        else:
            both = precision == "bf16" and k <= RERANKED_NEIGHBOURS
            search = _nearest_by_both if both else nearest_by_product
            sims[part], ids[part] = search(
                train, test[part], k, chunk_bytes, unit=metric == "cosine"
            )
    let_go(test)
    return sims, ids


def _split_budget(
    shape: tuple[int, ...],
    k: int,
    metric: Metric,
    precision: SearchPrecision,
    memory_mb: int | None,
) -> tuple[int, int]:
    """Returns the number of test features and bytes of train features to process at a time."""
    n, d = shape
    # Features, and similarities and indices: the best so far, those found, and the best of both;
    # for distances also the recomputed ones, while they are sorted.
    if metric == "euclidean":
        row_bytes = 8 * d + 84 * (k + max(8, k // 4))
    else:
        row_bytes = 4 * d + 36 * (k + 1)
    if memory_mb is None:
        return max(1, min(n, 2 * CHUNK_BYTES // row_bytes)), CHUNK_BYTES
    overhead = OVERHEAD_BYTES[precision] + BLOCK_BYTES
    room = max(memory_mb * 10**6 - overhead, 1 << 20)
    rows = max(1, min(n, room // 2 // row_bytes))
    return rows, min(max(room - rows * row_bytes, 1 << 20), LARGEST_CHUNK_BYTES)


def _nearest_by_both(
    train: Floats, test: Floats, k: int, chunk_bytes: int, *, unit: bool
) -> tuple[Floats, Ids]:
    from ssl_zoo.evaluators.search.reranked import nearest_reranked

    sims, ids, unsure = nearest_reranked(train, test, k, chunk_bytes, unit=unit)
    if len(unsure):
        sims[unsure], ids[unsure] = nearest_by_product(
            train, test[unsure], k, chunk_bytes, unit=unit
        )
    return sims, ids
