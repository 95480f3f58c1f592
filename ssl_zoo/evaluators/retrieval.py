"""Retrieval: ranks images by cosine similarity to each test image."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from ssl_zoo.config import NamedConfig
from ssl_zoo.errors import UserError
from ssl_zoo.evaluators import scoring
from ssl_zoo.evaluators.base import EVALUATORS, Evaluator, Features, Scores
from ssl_zoo.evaluators.checks import check_features, check_labels
from ssl_zoo.evaluators.search.exact import unit_rows

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]
Count = Annotated[int, Field(ge=1, le=1_000_000)]

VERSION = 1
"""Version of the rules below, increased when a change affects scores."""

_BYTES_PER_PAIR = 4  # a cosine
_BYTES_PER_IMAGE = 32  # sorting keys of the current query and their inputs
_HELD_BYTES = 512 << 20
"""Largest normalised copy of the database kept in memory; a larger one is made part by part."""


@EVALUATORS.register
class Retrieval(Evaluator):
    """How well a query image retrieves images of its class, with exact ranking of the whole database.

    Scores in percent, means over test images with bootstrapped intervals. With R the number of
    database images of a query's class:

    - `map`: average precision: the mean of the precision at the ranks of all R images.

    - `map@r`: the same within the first R ranks, divided by R (Musgrave, Belongie and Lim, "A
      metric learning reality check", 2020, arXiv:2003.08505, section 2.3).

    - `r_precision`: the fraction of the first R ranks that are of the class.

    - `recall@K`: whether one of the first K is of the class (Jégou, Douze and Schmid, 2011).

    Images are ranked by decreasing cosine, then by increasing index. A query whose class is not in
    the database scores 0 everywhere. A `k` above the size of the database uses all of it.
    """

    class Config(NamedConfig):
        """Settings of retrieval."""

        shorthand: ClassVar[str | None] = "database"

        name: Literal["retrieval"] = "retrieval"
        database: Literal["train", "test"] = "train"
        """Split to search; with `test` each query excludes itself."""
        k: tuple[Count, ...] = Field(default=(1, 5, 10, 100), min_length=1, max_length=100)
        """Numbers of top ranks for `recall`."""
        memory_mb: int = Field(default=1024, ge=16, le=1_000_000)
        """Memory for rankings in addition to the normalised features, in MB; does not affect the
        scores."""
        n_resamples: int = Field(default=2000, ge=100, le=1_000_000)
        """Number of bootstrap samples for the intervals; does not affect the scores."""

        @field_validator("k")
        @classmethod
        def _rise(cls, k: tuple[int, ...]) -> tuple[int, ...]:
            if len(set(k)) < len(k):
                raise ValueError(f"k contains a number twice: {list(k)}; list each once")
            return tuple(sorted(k))

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.labelled = ("test",) if config.database == "test" else ("train", "test")

    def evaluate(self, train: Features, test: Features, *, seed: int = 0) -> Scores:
        """Returns the retrieval scores of the images of `test`.

        Raises:
            UserError: features are empty, not finite or of different sizes; labels are missing,
                negative or, in the database, all the same; or the only test image would search
                itself.
        """
        check_features("retrieval", train=train, test=test)
        config = self.config
        within = config.database == "test"
        if within and len(test) < 2:
            raise UserError(
                "retrieval with database=test needs 2 test images, but there is 1; use database=train"
            )
        database = test if within else train
        labels = check_labels("retrieval", config.database, database)
        wanted = check_labels("retrieval", "test", test, min_classes=1)
        found: list[Ranked] = []
        for ids, query in rankings(
            database.values, test.values, without_self=within, memory_mb=config.memory_mb
        ):
            found.append(judge(labels[ids] == wanted[query], config.k))
        outcomes: dict[str, NDArray[Any]] = {
            name: np.array([one.shares[name] for one in found], dtype=np.float32)
            for name in ("map", "map@r", "r_precision")
        }
        for place, k in enumerate(config.k):
            outcomes[f"recall@{k}"] = np.array([one.hits[place] for one in found], dtype=np.bool_)
        values, intervals = scoring.in_percent(outcomes, seed=seed, n_resamples=config.n_resamples)
        return Scores(
            values=values,
            intervals=intervals,
            protocol=scoring.described("retrieval", self._settings()),
            headline="map",
            outcomes=outcomes,
        )

    def _settings(self) -> dict[str, Any]:
        settings = self.config.model_dump(mode="json", exclude={"memory_mb", "n_resamples"})
        return {**settings, "name": "cosine-retrieval", "version": VERSION}


@dataclass(frozen=True)
class Ranked:
    """The scores of one query: fractions in [0, 1] by name, and whether there is a hit for each `k`."""

    shares: dict[str, float]
    hits: list[bool]


def judge(relevant: NDArray[np.bool_], k: tuple[int, ...]) -> Ranked:
    """Scores one ranking.

    Args:
        relevant: which ranks are images of the class, `(N,)`.
        k: numbers of top ranks in which to look for a hit.
    """
    places = np.flatnonzero(relevant) + 1
    n = len(places)
    if not n:
        return Ranked({"map": 0.0, "map@r": 0.0, "r_precision": 0.0}, [False] * len(k))
    precisions = np.arange(1, n + 1) / places
    within = int(np.searchsorted(places, n, side="right"))
    shares = {
        "map": float(precisions.mean()),
        "map@r": float(precisions[:within].sum() / n),
        "r_precision": within / n,
    }
    return Ranked(shares, [bool(places[0] <= count) for count in k])


def rankings(
    database: Floats, queries: Floats, *, without_self: bool, memory_mb: int
) -> Iterator[tuple[NDArray[np.int64], int]]:
    """Yields the position of each query and the database in order of decreasing cosine, then index.

    Cosines are float32 sums, whose last bits may differ between equal features.

    Args:
        database: `(N, D)`.
        queries: `(Q, D)`.
        without_self: whether the queries are the database, so each is excluded from its own ranking.
        memory_mb: memory for cosines and keys of several queries, in MB; at least one query is ranked.

    Yields:
        Indices `(N,)`, or `(N - 1,)` without the query itself.
    """
    n = len(database)
    step = max(1, min(1024, (memory_mb * 10**6 // n - _BYTES_PER_IMAGE) // _BYTES_PER_PAIR))
    parts = list(_unit_parts(database)) if database.nbytes <= _HELD_BYTES else None
    index = np.arange(n, dtype=np.uint64)
    for start in range(0, len(queries), step):
        block = unit_rows(queries[start : start + step])
        cosines = np.empty((len(block), n), dtype=np.float32)
        for rows, part in parts if parts is not None else _unit_parts(database):
            np.matmul(block, part.T, out=cosines[:, rows])
        for place, row in enumerate(cosines):
            # Cosine and index in one integer: faster than sorting with a separate order.
            keys = (_falling(row).astype(np.uint64) << np.uint64(32)) | index
            keys.sort()
            ids = (keys & np.uint64(0xFFFFFFFF)).astype(np.int64)
            query = start + place
            yield (ids[ids != query] if without_self else ids), query


def _falling(values: Floats) -> NDArray[np.uint32]:
    """Returns integers in the reverse order of the values."""
    bits = (0.0 - values).view(np.uint32)  # 0 - x, so that 0 and -0 are the same
    sign = (bits.view(np.int32) >> 31).view(np.uint32)
    return bits ^ (sign | np.uint32(0x80000000))


def _unit_parts(values: Floats) -> Iterator[tuple[slice, Floats]]:
    step = max(1, _HELD_BYTES // (4 * values.shape[1]))
    for start in range(0, len(values), step):
        yield slice(start, min(start + step, len(values))), unit_rows(values[start : start + step])
