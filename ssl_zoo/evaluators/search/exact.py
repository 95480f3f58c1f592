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
"""Train features that are prepared for the search at a time, where no budget is given."""
LARGEST_CHUNK_BYTES = 256 << 20
"""The same where the budget would allow more, which would gain nothing."""
OVERHEAD_BYTES: dict[SearchPrecision, int] = {"fp32": 48 << 20, "bf16": 112 << 20}
"""What the libraries hold at a time: faiss, similarities of 4096 test and 1024 train features, and
heaps; torch, features in an order of its own, and what is looked at one by one."""
RERANKED_NEIGHBOURS = 64
"""Most neighbours for which products in bfloat16 pay."""


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

    Neighbours are ordered by falling similarity, then by rising index, and where several compete
    for the last place the lowest indices win. Cosines and dot products are float32 sums, whose
    last bits can set equal features apart; distances are computed in float64 and then rounded to
    float32, and are 0 between equal features.

    Train features are read from first to last, chunk by chunk, once for each block of test
    features that the budget allows, and are let go of where they are a memory map.

    Args:
        train: `(N, D)`.
        test: `(Q, D)`.
        k: a `k` above `N` finds all `N`.
        metric: `cosine`, `dot`, or `euclidean`.
        unit: whether distances are between features of norm 1.
        precision: of the products that pick candidates. With `bf16` cosines and dot products are
            float64 sums, rounded, and neighbours the same but where float32 cannot tell them
            apart; distances, and a `k` above 64, are searched in float32 all the same.
        memory_mb: megabytes to stay within beside `train`, `test` and the result.

    Returns:
        Similarities and indices, `(Q, min(k, N))`; distances come with a minus.

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
    """Returns how many test features, and bytes of train features, are worked on at a time."""
    n, d = shape
    # Features, and similarities and indices: the best so far, those found, and the best of both;
    # of distances those that are computed again, while they are put into order.
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
