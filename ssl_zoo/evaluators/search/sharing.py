"""A bank of train features that ranks share, and a search of each of them in its share.

Each rank searches the features of its share for all test features. What they find is merged pair by
pair, in the order of the shares, by decreasing similarity and increasing index. Shares begin at
multiples of `SCANNED_ROWS`, so products are those of one rank, with an equal number of threads to the
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
from ssl_zoo.evaluators.search.flat import SCANNED_ROWS, Best, Floats, chunks
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
class Spread:
    """Features of rank 0 of which each rank gets a share.

    Attributes:
        shape: `(N, D)`.
        place: their file; None if rank 0 sends them.
    """

    shape: tuple[int, int]
    place: Mapped | None

    @classmethod
    def of(cls, values: Floats) -> "Spread":
        """Returns where features are."""
        return cls((len(values), values.shape[1]), mapped_rows(values))


@dataclass(frozen=True)
class _Request:
    """A search that rank 0 asks the others to take part in.

    Attributes:
        search: function at module level.
        train: the train features.
        queries: shape of the test features.
        size: number of neighbours.
        chunk_bytes: see `Bank`.
        unit: see `Bank`.
    """

    search: Search
    train: Spread
    queries: tuple[int, int]
    size: int
    chunk_bytes: int
    unit: bool


def over_ranks(search: Search, bank: Bank, queries: Floats, size: int) -> Best:
    """Returns what a search finds in a whole bank; ranks that wait for this one share the work.

    Raises:
        UserError: a rank cannot read the file of the features, or the search raised one.
    """
    if not distributed.helpers() or len(bank) * queries.size < WORTH_SHARING:
        return search(bank, queries, size)
    shape = (len(queries), queries.shape[1])
    request = _Request(search, Spread.of(bank.values), shape, size, bank.chunk_bytes, bank.unit)
    return distributed.together(_search_own, request, held=(bank.values, queries))


def shares(n: int, n_ranks: int) -> list[slice]:
    """Returns the rows of each rank, in whole blocks of products; a rank may get none."""
    n_blocks = -(-n // SCANNED_ROWS)
    bounds = [min(n, SCANNED_ROWS * (n_blocks * rank // n_ranks)) for rank in range(n_ranks + 1)]
    return [slice(*pair) for pair in itertools.pairwise(bounds)]


def _search_own(request: _Request, held: tuple[Floats, Floats] | None) -> Best:
    """Searches this rank's share, and returns on rank 0 what all have found."""
    queries = np.empty(request.queries, dtype=np.float32) if held is None else held[1]
    distributed.broadcast(_shared(queries))
    values, start = spread(request.train, None if held is None else held[0])
    bank = Bank(values, request.chunk_bytes, request.unit, start)
    problem, best = None, Best(len(queries), request.size)
    try:
        best = request.search(bank, queries, min(request.size, len(bank)))
    except UserError as error:
        problem = str(error)
    let_go(values)
    distributed.raise_any(problem)
    best.size = request.size  # that of its share may be smaller
    return _merged(best)


def spread(given: Spread, held: Floats | None) -> tuple[Floats, int]:
    """Returns this rank's share of features and the position of its first; all ranks must call it.

    Args:
        given: where they are.
        held: the features, on rank 0; None on the others.

    Raises:
        UserError: a rank cannot read their file.
    """
    own = shares(given.shape[0], distributed.world_size())
    rows = own[distributed.rank()]
    if given.place is None:
        return (_received_rows(given, rows) if held is None else _sent(held, own)), rows.start
    problem, values = None, np.empty((0, given.shape[1]), dtype=np.float32)
    try:
        values = given.place.open(given.shape)[rows]
    except UserError as error:
        problem = str(error)
    distributed.raise_any(problem)
    return values, rows.start


def _sent(values: Floats, own: list[slice]) -> Floats:
    """Sends the other ranks their rows, a few at a time, and returns rank 0's."""
    for rank, rows in enumerate(own[1:], start=1):
        for part in _few(rows, values.shape[1]):
            few = np.ascontiguousarray(values[part], dtype=np.float32)
            distributed.send(_shared(few), rank)
    return values[own[0]]


def _received_rows(given: Spread, rows: slice) -> Floats:
    received = np.empty((rows.stop - rows.start, given.shape[1]), dtype=np.float32)
    for part in _few(slice(0, len(received)), given.shape[1]):
        distributed.receive(_shared(received[part]), 0)
    return received


def _few(rows: slice, d: int) -> list[slice]:
    step = max(1, SENT_NUMBERS // d)
    return [
        slice(start, min(start + step, rows.stop)) for start in range(rows.start, rows.stop, step)
    ]


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
