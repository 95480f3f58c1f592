"""Building blocks of exact search: features in chunks, and the best of them in order."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ssl_zoo.evaluators.search.faiss_import import faiss as _faiss
from ssl_zoo.evaluators.search.mapped import let_go

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

BLOCK_BYTES = 32 << 20
"""Bytes of similarities in memory when neighbours are examined one by one."""
READ_BYTES = 4 << 20
"""Features normalised at a time."""
SORTED_NEIGHBOURS = 1 << 18
"""Neighbours sorted at a time."""
GPU_NEIGHBOURS = 2048
"""Largest number of neighbours that faiss supports on a GPU."""


def unit_rows(values: Floats) -> Floats:
    """Returns a copy with L2-normalised rows; zero rows stay zero."""
    norms = np.sqrt(np.einsum("nd,nd->n", values, values, dtype=np.float64))
    norms[norms == 0] = 1
    unit = np.empty(values.shape, dtype=np.float32)
    np.divide(values, norms[:, None], out=unit, casting="same_kind")
    return unit


def chunks(values: Floats, chunk_bytes: int, *, unit: bool) -> Iterator[tuple[int, Floats]]:
    """Yields the position of each chunk and the chunk, L2-normalised if `unit`."""
    rows = max(1, chunk_bytes // (4 * values.shape[1]))
    for start in range(0, len(values), rows):
        part = values[start : start + rows]
        yield start, _all_unit(part) if unit else np.ascontiguousarray(part, dtype=np.float32)
        let_go(values)


def _all_unit(values: Floats) -> Floats:
    """Returns L2-normalised rows; releases the memory of a memory map along the way."""
    unit = np.empty(values.shape, dtype=np.float32)
    step = max(1, READ_BYTES // (4 * values.shape[1]))
    for start in range(0, len(values), step):
        unit[start : start + step] = unit_rows(values[start : start + step])
        let_go(values)
    return unit


def flat_search(
    queries: Floats, chunk: Floats, k: int, kind: Literal["product", "distance"]
) -> tuple[Floats, Ids]:
    """Returns the `k` largest dot products, or smallest squared distances, and their positions.

    All GPUs that faiss sees share the work. Ties for the last place are broken arbitrarily, and
    the order of tied features is arbitrary.
    """
    faiss = _faiss()
    metric = faiss.METRIC_INNER_PRODUCT if kind == "product" else faiss.METRIC_L2
    if k <= GPU_NEIGHBOURS and faiss.get_num_gpus() > 0:
        options = faiss.GpuMultipleClonerOptions()
        options.shard = True
        index = faiss.IndexFlat(chunk.shape[1], metric)
        index.add(chunk)
        found = faiss.index_cpu_to_all_gpus(index, co=options).search(queries, k)
    else:
        found = faiss.knn(queries, chunk, k, metric)
    sims: Floats = found[0]
    ids: Ids = found[1]
    return sims, ids


@dataclass
class Best:
    """The most similar features so far, by decreasing similarity, then increasing index.

    Attributes:
        n: number of test features.
        size: number of neighbours kept per test feature.
    """

    n: int
    size: int

    def __post_init__(self) -> None:
        self.sims: Floats = np.empty((self.n, 0), dtype=np.float32)
        self.ids: Ids = np.empty((self.n, 0), dtype=np.int64)

    def add(self, sims: Floats, ids: Ids) -> None:
        """Adds neighbours found in another chunk, `(n, M)`, in decreasing order except for ties.

        All their indices must be above those of earlier chunks.
        """
        for rows in self._slices(sims.shape[1]):
            tied = np.flatnonzero((sims[rows, 1:] == sims[rows, :-1]).any(axis=1)) + rows.start
            if len(tied):
                sims[tied], ids[tied] = in_order(sims[tied], ids[tied])
        self.sims, self.ids = self._merged(sims, ids) if self.sims.shape[1] else (sims, ids)

    def _merged(self, sims: Floats, ids: Ids) -> tuple[Floats, Ids]:
        both = self.sims.shape[1] + sims.shape[1]
        width = min(self.size, both)
        merged = np.empty((self.n, width), np.float32), np.empty((self.n, width), np.int64)
        for rows in self._slices(both):
            joined = np.concatenate([self.sims[rows], sims[rows]], axis=1)
            order = np.argsort(-joined, axis=1, kind="stable")[:, :width]
            merged[0][rows] = np.take_along_axis(joined, order, 1)
            joined_ids = np.concatenate([self.ids[rows], ids[rows]], axis=1)
            merged[1][rows] = np.take_along_axis(joined_ids, order, 1)
        return merged

    def _slices(self, width: int) -> Iterator[slice]:
        """Yields slices of rows to sort at a time, to limit memory."""
        step = max(1, SORTED_NEIGHBOURS // width)
        return (slice(start, start + step) for start in range(0, self.n, step))


def in_order(sims: Floats, ids: Ids) -> tuple[Floats, Ids]:
    """Sorts each row by decreasing similarity, then increasing index."""
    order = np.lexsort((ids, -sims), axis=1)
    return np.take_along_axis(sims, order, 1), np.take_along_axis(ids, order, 1)


def largest(sims: Floats, k: int) -> tuple[Floats, Ids]:
    """Returns the `k` largest values of each row, in order; ties go to the lowest positions."""
    last = np.partition(sims, -k, axis=1)[:, -k, None]
    above, level = sims > last, sims == last
    room = k - above.sum(axis=1, keepdims=True)
    chosen = above | (level & (level.cumsum(axis=1, dtype=np.int32) <= room))
    places = np.nonzero(chosen)[1].reshape(-1, k).astype(np.int64)
    return in_order(sims[chosen].reshape(-1, k), places)
