"""A bank of train features that ranks share, and a search of each of them in its share.

Each rank searches the features of its share for all test features. What they find is merged pair by
pair, in the order of the shares, by decreasing similarity and increasing index. Shares begin at
multiples of `ROWS_AT_ONCE`, so products are those of one rank, with an equal number of threads to the
last bit.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ssl_zoo import distributed
from ssl_zoo.errors import UserError
from ssl_zoo.evaluators.search.flat import ROWS_AT_ONCE, Best, Floats, chunks
from ssl_zoo.evaluators.search.mapped import Mapped, let_go, mapped_rows

WORTH_SHARING = 1 << 31
"""Fewest multiplications of a search that ranks share; a smaller one takes less than a tenth of a
second."""
SENT_NUMBERS = 1 << 24
"""Values of features sent to another rank at a time."""


@dataclass(frozen=True)
class Bank:
    """Train features, or a share of them.

    Attributes:
        values: `(N, D)`.
        chunk_bytes: bytes of features prepared for the search at a time.
        unit: whether features are L2-normalised for the search.
        start: position of the first among all train features.
    """

    values: Floats
    chunk_bytes: int
    unit: bool
    start: int = 0

    def __len__(self) -> int:
        return len(self.values)

    def chunks(self) -> Iterator[tuple[int, Floats]]:
        """Yields the position of each chunk among all train features, and the chunk."""
        for start, chunk in chunks(self.values, self.chunk_bytes, unit=self.unit):
            yield self.start + start, chunk


Search = Callable[[Bank, Floats, int], Best]
"""Returns the nearest of a bank's features to test features, at most as many as asked for."""


@dataclass(frozen=True)
class _Request:
    """A search that rank 0 asks the others to take part in.

    Attributes:
        search: function at module level.
        shape: shape of the train features.
        queries: shape of the test features.
        size: number of neighbours.
        place: file of the train features; None if rank 0 sends them.
        chunk_bytes: see `Bank`.
        unit: see `Bank`.
    """

    search: Search
    shape: tuple[int, int]
    queries: tuple[int, int]
    size: int
    place: Mapped | None
    chunk_bytes: int
    unit: bool


def over_ranks(search: Search, bank: Bank, queries: Floats, size: int) -> Best:
    """Returns what a search finds in a whole bank; ranks that wait for this one share the work.

    Raises:
        UserError: a rank cannot read the file of the features, or the search raised one.
    """
    if not distributed.helpers() or len(bank) * queries.size < WORTH_SHARING:
        return search(bank, queries, size)
    request = _Request(
        search,
        (len(bank), bank.values.shape[1]),
        (len(queries), queries.shape[1]),
        size,
        mapped_rows(bank.values),
        bank.chunk_bytes,
        bank.unit,
    )
    return distributed.together(_search_own, request, held=(bank.values, queries))


def shares(n: int, n_ranks: int) -> list[slice]:
    """Returns the rows of each rank, in whole blocks of products where there are enough of them."""
    block = ROWS_AT_ONCE if n >= ROWS_AT_ONCE * n_ranks else 1
    n_blocks = -(-n // block)
    bounds = [min(n, block * (n_blocks * rank // n_ranks)) for rank in range(n_ranks + 1)]
    return [slice(*pair) for pair in itertools.pairwise(bounds)]


def _search_own(request: _Request, held: tuple[Floats, Floats] | None) -> Best:
    """Searches this rank's share, and returns on rank 0 what all have found."""
    queries = np.empty(request.queries, dtype=np.float32) if held is None else held[1]
    distributed.broadcast(_shared(queries))
    own, best, problem = shares(request.shape[0], distributed.world_size()), None, None
    rows = own[distributed.rank()]
    try:
        if request.place is not None:
            values: Floats = request.place.open(request.shape)[rows]
        else:
            values = _sent(request, held, own)
        bank = Bank(values, request.chunk_bytes, request.unit, rows.start)
        best = request.search(bank, queries, min(request.size, len(bank)))
        let_go(values)
    except UserError as error:
        problem = str(error)
    distributed.raise_any(problem)
    assert best is not None
    best.size = request.size  # that of its share may be smaller
    return _merged(best)


def _sent(request: _Request, held: tuple[Floats, Floats] | None, own: list[slice]) -> Floats:
    """Returns this rank's train features; rank 0 sends the others theirs, a few rows at a time."""
    step = max(1, SENT_NUMBERS // request.shape[1])
    if held is not None:
        values = held[0]
        for rank, rows in enumerate(own[1:], start=1):
            for start in range(rows.start, rows.stop, step):
                part = values[start : min(start + step, rows.stop)]
                distributed.send(_shared(np.ascontiguousarray(part, dtype=np.float32)), rank)
        return values[own[0]]
    rows = own[distributed.rank()]
    received = np.empty((rows.stop - rows.start, request.shape[1]), dtype=np.float32)
    for start in range(0, len(received), step):
        distributed.receive(_shared(received[start : start + step]), 0)
    return received


def _merged(best: Best) -> Best:
    """Merges pairs of neighbouring ranks until rank 0 has all; others return what they sent."""
    rank, n_ranks, distance = distributed.rank(), distributed.world_size(), 1
    while distance < n_ranks:
        if rank % (2 * distance):
            _send(best, rank - distance)
            return best
        if rank + distance < n_ranks:
            found = _received(best.n, rank + distance)
            best.unsure |= found.unsure
            if found.sims.shape[1]:
                best.add(found.sims, found.ids)
        distance *= 2
    return best


def _send(best: Best, to: int) -> None:
    distributed.send(torch.tensor([best.sims.shape[1]]), to)
    distributed.send(_shared(best.sims), to)
    distributed.send(_shared(best.ids), to)
    distributed.send(_shared(best.unsure.view(np.uint8)), to)


def _received(n: int, source: int) -> Best:
    width = int(distributed.receive(torch.zeros(1, dtype=torch.int64), source))
    sims, ids = np.empty((n, width), dtype=np.float32), np.empty((n, width), dtype=np.int64)
    distributed.receive(_shared(sims), source)
    distributed.receive(_shared(ids), source)
    best = Best.of(sims, ids)
    distributed.receive(_shared(best.unsure.view(np.uint8)), source)
    return best


def _shared(values: Any) -> torch.Tensor:
    """Returns a tensor of the same memory."""
    return torch.from_numpy(np.ascontiguousarray(values))
