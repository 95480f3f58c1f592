"""Building blocks of exact search: features in chunks, and the best of them in order."""

import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ssl_zoo.evaluators.search.faiss_import import faiss as _faiss
from ssl_zoo.evaluators.search.mapped import let_go

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

BLOCK_BYTES = 32 << 20
"""Bytes of similarities in memory when neighbours are examined one by one."""
READ_BYTES = 4 << 20
"""Features normalised at a time."""
SORTED_NEIGHBOURS = 1 << 16
"""Neighbours sorted at a time by a thread."""
ROWS_AT_ONCE = 1024
"""Train features that faiss multiplies at a time (`distance_compute_blas_database_bs`). Chunks begin at
multiples of it, so that products do not depend on them to the last bit."""
SCANNED_ROWS = 4 * ROWS_AT_ONCE
"""Train features multiplied at a time when all products are examined. Large chunks and the shares of ranks
begin at multiples of it, for the same reason."""
GPU_NEIGHBOURS = 2048
"""Largest number of neighbours that faiss supports on a GPU."""


def unit_rows(values: Floats) -> Floats:
    """Returns a copy with L2-normalised rows; zero rows stay zero."""
    norms = np.sqrt(np.einsum("nd,nd->n", values, values, dtype=np.float64))
    norms[norms == 0] = 1
    unit = np.empty(values.shape, dtype=np.float32)
    np.divide(values, norms[:, None], out=unit, casting="same_kind")
    return unit


def chunk_rows(d: int, chunk_bytes: int) -> int:
    """Returns the number of features of dimension `d` in a chunk, in whole blocks of products."""
    rows = max(1, chunk_bytes // (4 * d))
    block = next((block for block in (SCANNED_ROWS, ROWS_AT_ONCE) if rows >= block), 1)
    return rows // block * block


def chunks(values: Floats, chunk_bytes: int, *, unit: bool) -> Iterator[tuple[int, Floats]]:
    """Yields the position of each chunk and the chunk, L2-normalised if `unit`.

    A normalised chunk is valid until the next one.
    """
    rows, d = chunk_rows(values.shape[1], chunk_bytes), values.shape[1]
    room = np.empty((min(rows, len(values)), d) if unit else (0, d), dtype=np.float32)
    for start in range(0, len(values), rows):
        part = values[start : start + rows]
        if unit:
            _normalise(part, room)
            yield start, room[: len(part)]
        else:
            yield start, np.ascontiguousarray(part, dtype=np.float32)
        let_go(values)


def _normalise(values: Floats, room: Floats) -> None:
    """Writes L2-normalised rows to `room`; releases the memory of a memory map along the way."""
    step = max(1, READ_BYTES // (4 * values.shape[1]))

    def normalise(start: int) -> None:
        rows = slice(start, min(start + step, len(values)))
        room[rows] = unit_rows(values[rows])
        let_go(values)

    in_threads(normalise, range(0, len(values), step))


def in_threads(work: Callable[[Any], None], parts: Iterable[Any]) -> None:
    """Calls a function for each part, in as many threads as torch uses."""
    n_threads = torch.get_num_threads()
    if n_threads == 1:
        deque(map(work, parts), maxlen=0)
        return
    with ThreadPoolExecutor(n_threads) as pool:
        deque(pool.map(work, parts), maxlen=0)


def flat_search(
    queries: Floats, chunk: Floats, k: int, kind: Literal["product", "distance"]
) -> tuple[Floats, Ids]:
    """Returns the `k` largest dot products, or smallest squared distances, and their positions.

    Computed on this rank's GPU if faiss sees one. Ties for the last place are broken arbitrarily, and
    the order of tied features is arbitrary.
    """
    faiss = _faiss()
    metric = faiss.METRIC_INNER_PRODUCT if kind == "product" else faiss.METRIC_L2
    if k <= GPU_NEIGHBOURS and faiss.get_num_gpus() > 0:
        device = torch.cuda.current_device()
        found = faiss.knn_gpu(gpu_resources(), queries, chunk, k, metric=metric, device=device)
    else:
        found = faiss.knn(queries, chunk, k, metric)
    sims: Floats = found[0]
    ids: Ids = found[1]
    return sims, ids


@functools.cache
def gpu_resources() -> Any:
    """Returns faiss's memory and streams on GPUs, which are made once in a process."""
    return _faiss().StandardGpuResources()


@dataclass
class Best:
    """The most similar features so far, by decreasing similarity, then increasing index.

    Attributes:
        n: number of test features.
        size: number of neighbours kept per test feature.
        unsure: test features for which others might be nearer, `(n,)`.
    """

    n: int
    size: int

    def __post_init__(self) -> None:
        self.sims: Floats = np.empty((self.n, 0), dtype=np.float32)
        self.ids: Ids = np.empty((self.n, 0), dtype=np.int64)
        self.unsure = np.zeros(self.n, dtype=np.bool_)

    @classmethod
    def of(cls, sims: Floats, ids: Ids) -> "Best":
        """Returns neighbours in order, `(n, size)`, that others can be added to."""
        best = cls(*sims.shape)
        best.sims, best.ids = sims, ids
        return best

    def add(self, sims: Floats, ids: Ids) -> None:
        """Adds neighbours found in another chunk, `(n, M)`, in decreasing order except for ties.

        All their indices must be above those of earlier chunks.
        """

        def order(rows: slice) -> None:
            tied = np.flatnonzero((sims[rows, 1:] == sims[rows, :-1]).any(axis=1)) + rows.start
            if len(tied):
                sims[tied], ids[tied] = in_order(sims[tied], ids[tied])

        in_threads(order, self._slices(sims.shape[1]))
        self.sims, self.ids = self._merged(sims, ids) if self.sims.shape[1] else (sims, ids)

    def _merged(self, sims: Floats, ids: Ids) -> tuple[Floats, Ids]:
        both = self.sims.shape[1] + sims.shape[1]
        width = min(self.size, both)
        if width > self.sims.shape[1]:
            merged = np.empty((self.n, width), np.float32), np.empty((self.n, width), np.int64)
        else:
            merged = self.sims, self.ids  # rows that nothing enters stay as they are

        def merge(rows: slice) -> None:
            place = np.arange(rows.start, min(rows.stop, self.n))
            if merged[0] is self.sims:
                place = place[sims[rows, 0] > self.sims[rows, -1]]
            joined = np.concatenate([self.sims[place], sims[place]], axis=1)
            order = np.argsort(-joined, axis=1, kind="stable")[:, :width]
            joined_ids = np.concatenate([self.ids[place], ids[place]], axis=1)
            merged[0][place] = np.take_along_axis(joined, order, 1)
            merged[1][place] = np.take_along_axis(joined_ids, order, 1)

        in_threads(merge, self._slices(both))
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
