"""Exact nearest neighbours within a memory budget."""

from typing import Literal

import numpy as np

from ssl_zoo.evaluators.search.distances import nearest_by_distance
from ssl_zoo.evaluators.search.flat import BLOCK_BYTES, Floats, Ids, unit_rows
from ssl_zoo.evaluators.search.mapped import let_go
from ssl_zoo.evaluators.search.products import nearest_by_product
from ssl_zoo.evaluators.search.sharing import Bank

__all__ = ["Metric", "SearchPrecision", "nearest", "unit_rows"]

Metric = Literal["cosine", "dot", "euclidean"]
SearchPrecision = Literal["fp32", "bf16"]

MEMORY_MB = 1000
"""Memory limit in MB without a budget."""
CHUNK_BYTES = 256 << 20
"""Bytes of train features prepared for the search at a time; more would not be faster."""
LEAST_CHUNK_BYTES = 64 << 20
"""The same, if all test features then fit the budget: train features are prepared once for all."""
QUERIES_AT_ONCE = 4096
"""Test features that faiss multiplies at a time (`distance_compute_blas_query_bs`)."""
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

    Train features are read and normalised in order, chunk by chunk, once per block of test features
    that fits the budget, so mostly once. If they are a memory map, their memory is released after use.

    Called on rank 0 while the others wait for it (`distributed.on_main`), a large search of cosines or
    dot products is shared by all ranks, with the same result. Each needs the memory of the budget, and its
    share of `train` if that is not a memory map.

    Args:
        train: `(N, D)`.
        test: `(Q, D)`.
        k: number of neighbours; above `N`, all `N` are returned.
        metric: `cosine`, `dot`, or `euclidean`.
        unit: whether distances are between L2-normalised features.
        precision: precision of the products that select candidates. With `bf16`, cosines and dot
            products are rounded float64 sums, and neighbours are the same except where float32
            cannot distinguish them; distances, and a `k` above 64, are always searched in float32.
        memory_mb: memory limit in MB, in addition to `train`, `test` and the result; 1000 by default.

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
            size = min(chunk_bytes, LEAST_CHUNK_BYTES) if both else chunk_bytes
            sims[part], ids[part] = search(
                Bank(train, size, unit=metric == "cosine"), test[part], k
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
    overhead = OVERHEAD_BYTES[precision] + BLOCK_BYTES
    budget = (MEMORY_MB if memory_mb is None else memory_mb) * 10**6
    room = max(budget - overhead, 1 << 20)
    rows = n
    if room - n * row_bytes < LEAST_CHUNK_BYTES:
        rows = max(1, min(n, room // 2 // row_bytes))
        rows = rows if rows < QUERIES_AT_ONCE else rows // QUERIES_AT_ONCE * QUERIES_AT_ONCE
    return rows, min(max(room - rows * row_bytes, 1 << 20), CHUNK_BYTES)


def _nearest_by_both(bank: Bank, test: Floats, k: int) -> tuple[Floats, Ids]:
    from ssl_zoo.evaluators.search.reranked import nearest_reranked

    sims, ids, unsure = nearest_reranked(bank, test, k)
    if len(unsure):
        sims[unsure], ids[unsure] = nearest_by_product(bank, test[unsure], k)
    return sims, ids
