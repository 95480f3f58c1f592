"""Approximate search for problems that are too slow to search exactly, and its recall.

Jégou, Douze and Schmid, "Product quantization for nearest neighbor search", 2011 (inverted file
and compressed features), using faiss.
"""

import logging
import math
from typing import Any

import numpy as np

from ssl_zoo.errors import UserError
from ssl_zoo.evaluators.knn.protocols import KnnProtocol
from ssl_zoo.evaluators.search.exact import CHUNK_BYTES, nearest
from ssl_zoo.evaluators.search.faiss_import import faiss as _faiss
from ssl_zoo.evaluators.search.flat import BLOCK_BYTES, Floats, Ids, chunks, in_order, unit_rows
from ssl_zoo.evaluators.search.mapped import take

logger = logging.getLogger(__name__)

PROBED = 16
"""One in this many cells of an inverted file is searched."""
PROBED_AT_LEAST = 8
"""Minimum number of cells to search."""
PQ_NUMBERS = 4
"""Dimensions encoded in one byte."""
PQ_TRAIN = 256 * 39
"""Minimum number of features that faiss needs to learn 256 codes."""
LEARN_ROWS = 1 << 17
"""Maximum number of train features used to learn cells and codes."""
RECALL_QUERIES = 1000
"""Maximum number of test features that are also searched exactly, for the recall."""


def nearest_approximately(
    train: Floats, test: Floats, *, k: int, protocol: KnnProtocol, memory_mb: int | None = None
) -> tuple[Floats, Ids, dict[str, Any]]:
    """Finds approximately the `k` train features that are most similar to each test feature.

    The similarities of the results are computed from the original features.

    Args:
        train: `(N, D)`.
        test: `(Q, D)`.
        k: maximum number of neighbours.
        protocol: defines metric, normalisation and index.
        memory_mb: memory in MB for the exact search that measures the recall.

    Returns:
        Similarities and indices as from `nearest`, padded with -inf and 0 if too few were found,
        and details: the index, and `recall@k=K`, the percentage of exact neighbours found.

    Raises:
        UserError: there are too few train features to learn from.
    """
    k, unit = min(k, len(train)), protocol.normalise == "l2"
    index, about = _build(train, protocol, unit=unit)
    queries = unit_rows(test) if unit else np.ascontiguousarray(test, dtype=np.float32)
    found: Ids = index.search(queries, k)[1]
    sims, ids = _similarities(train, queries, found, protocol, unit=unit)
    chosen = np.arange(0, len(test), -(-len(test) // RECALL_QUERIES))
    exact = nearest(
        train, test[chosen], k=k, metric=protocol.metric, unit=unit, memory_mb=memory_mb
    )[1]
    kept = np.where(np.isfinite(sims[chosen]), ids[chosen], -1)
    for count in protocol.k:
        n = min(count, k)
        pairs = zip(exact[:, :n], kept[:, :n], strict=True)
        hits = sum(len(np.intersect1d(one, other)) for one, other in pairs)
        about[f"recall@k={count}"] = 100 * hits / exact[:, :n].size
    logger.info("index %s finds %.2f %% of the %d nearest",
                protocol.index, about[f"recall@k={protocol.k[-1]}"], k)  # fmt: skip
    return sims, ids, {"index": {**about, "recall_queries": len(chosen)}}


def _build(train: Floats, protocol: KnnProtocol, *, unit: bool) -> tuple[Any, dict[str, Any]]:
    faiss, (n, d) = _faiss(), train.shape
    euclidean = protocol.metric == "euclidean"
    metric = faiss.METRIC_L2 if euclidean else faiss.METRIC_INNER_PRODUCT
    about: dict[str, Any] = {"kind": protocol.index}
    if protocol.index == "fp16":
        index = faiss.IndexScalarQuantizer(d, faiss.ScalarQuantizer.QT_fp16, metric)
    elif protocol.index == "pq":
        if n < PQ_TRAIN:
            raise UserError(
                f"index pq needs at least {PQ_TRAIN} train features, but there are {n}; "
                "use index=exact, which is fast for so few"
            )
        codes = max(m for m in range(1, max(1, d // PQ_NUMBERS) + 1) if d % m == 0)
        about["bytes"] = codes
        index = faiss.IndexPQ(d, codes, 8, metric)
    else:
        cells = max(1, min(round(4 * math.sqrt(n)), n // 39))
        index = faiss.IndexIVFFlat(faiss.IndexFlat(d, metric), d, cells, metric)
        index.nprobe = min(cells, max(PROBED_AT_LEAST, cells // PROBED))
        about |= {"cells": cells, "probed": index.nprobe}
    if not index.is_trained:
        rows = take(train, np.arange(0, n, -(-n // LEARN_ROWS)))
        index.train(unit_rows(rows) if unit else rows)
    for _, chunk in chunks(train, CHUNK_BYTES, unit=unit):
        index.add(chunk)
    return index, about


def _similarities(
    train: Floats, queries: Floats, found: Ids, protocol: KnnProtocol, *, unit: bool
) -> tuple[Floats, Ids]:
    """Returns the similarities of the results, in order, padded with -inf and 0."""
    ids = np.maximum(found, 0)
    sims = np.empty(ids.shape, dtype=np.float32)
    step = max(1, BLOCK_BYTES // (8 * ids.shape[1] * train.shape[1]))
    for start in range(0, len(queries), step):
        rows = slice(start, start + step)
        values = take(train, ids[rows].ravel())
        values = (unit_rows(values) if unit else values).reshape(*ids[rows].shape, -1)
        if protocol.metric == "euclidean":
            gaps = values - queries[rows, None]
            sims[rows] = -np.sqrt(np.einsum("qkd,qkd->qk", gaps, gaps))
        else:
            sims[rows] = np.einsum("qkd,qd->qk", values, queries[rows])
    sims[found < 0] = -np.inf
    return in_order(sims, ids)
