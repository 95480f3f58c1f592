"""Directions that k-means goes through part by part, in memory or in a file."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ssl_zoo.evaluators.search.flat import Floats, Ids, unit_rows
from ssl_zoo.evaluators.search.mapped import let_go, take

MEMORY_MB = 2000
"""Largest normalised copy of the features in memory, in MB, without a budget."""
PART_NUMBERS = 1 << 23
"""Values of points worked on at a time."""


@dataclass(frozen=True)
class Points:
    """Points of length one, or zeros.

    Attributes:
        values: `(N, D)`.
        normalised: whether the rows have length one already; else they are normalised whenever read.
    """

    values: Floats
    normalised: bool = True

    @classmethod
    def of(cls, values: Floats, memory_mb: int | None = None) -> "Points":
        """Returns the directions of features, in memory if they fit the budget."""
        if values.size * 4 <= (memory_mb or MEMORY_MB) * 10**6:
            return cls(unit_rows(values))
        return cls(values, normalised=False)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def d(self) -> int:
        """Numbers of a point."""
        return int(self.values.shape[1])

    def parts(self) -> Iterator[tuple[slice, Floats]]:
        """Yields consecutive rows, and the points."""
        step = max(1, PART_NUMBERS // self.d)
        for start in range(0, len(self), step):
            rows = slice(start, min(start + step, len(self)))
            yield rows, self._as_points(self.values[rows])
            let_go(self.values)

    def take(self, rows: Ids) -> Floats:
        """Returns some points, in any order."""
        return self._as_points(take(self.values, rows))

    def _as_points(self, rows: Floats) -> Floats:
        return np.ascontiguousarray(rows) if self.normalised else unit_rows(rows)
