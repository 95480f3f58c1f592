"""Features prepared for linear classifiers: normalised and centred, one block at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Scaling = Literal["standardise", "l2"]

BLOCK_NUMBERS = 1 << 22
"""Values prepared at a time."""
HELD_BYTES = 2 << 30
"""Bytes of the largest prepared copy kept in memory; larger features are prepared in each pass."""
EXACT_NUMBERS = 1 << 21
"""Largest number of values prepared in float64; larger matrices are prepared in float32."""
DENSE = 4096
"""Largest dimension, or largest number of features, for which all products are computed."""
_RANK = (
    1e-12  # directions with a smaller sum of squares, relative to the largest, are rounding error
)
_CONSTANT = 1e-6  # below this ratio of spread to mean, float32 holds only rounding error


@dataclass(frozen=True)
class Scaler:
    """Preprocessing of features for a linear classifier.

    `standardise` gives each dimension mean 0 and standard deviation 1 over the images it was
    fitted to. `l2` scales each D-dimensional feature to length sqrt(D) and then centres each
    dimension, so one range of regularisation suits both. A constant dimension becomes 0.

    Attributes:
        rows: whether each feature is first scaled to length sqrt(D).
        mean: subtracted from each dimension, `(D,)` float64.
        gain: factor of each dimension after centring, `(D,)` float64.
        dtype: type of prepared features.
    """

    rows: bool
    mean: Tensor
    gain: Tensor
    dtype: torch.dtype

    def __call__(self, block: NDArray[np.float32]) -> Tensor:
        """Returns prepared features `(B, D)`."""
        found = _rows(block, self.rows, self.dtype)
        return found.sub_(self.mean.to(self.dtype)).mul_(self.gain.to(self.dtype))


class Design:
    """Prepared train features of a linear classifier.

    Args:
        values: features `(N, D)`.
        rows: positions to use, `(n,)`; all if None.
        normalise: see `Scaler`.

    Attributes:
        scaler: fitted to these features.
    """

    def __init__(
        self,
        values: NDArray[np.float32],
        rows: NDArray[np.int64] | None = None,
        *,
        normalise: Scaling,
    ) -> None:
        self._values, self._rows = values, rows
        self._held: list[Tensor] | None = None
        self.scaler = self._fit(normalise)
        if self.scaler.dtype.itemsize * len(self) * self.n_numbers <= HELD_BYTES:
            self._held = [self.scaler(block) for block in self._blocks()]

    def __len__(self) -> int:
        return len(self._values) if self._rows is None else len(self._rows)

    @property
    def n_numbers(self) -> int:
        """Dimension of a feature."""
        return int(self._values.shape[1])

    def __iter__(self) -> Iterator[tuple[slice, Tensor]]:
        """Yields slices of rows and their prepared features `(B, D)`."""
        start = 0
        held = self._held
        for block in held if held is not None else map(self.scaler, self._blocks()):
            yield slice(start, start + len(block)), block
            start += len(block)

    def spread(self) -> tuple[Tensor, Tensor | None]:
        """Returns variances `(R,)` along orthogonal directions, and the directions as columns `(D, R)`.

        Fewer than D features span fewer directions, which contain the weights of least norm. With
        more than `DENSE` features and dimensions, the directions are the axes and are returned as
        None.
        """
        if self._held is not None and len(self) < self.n_numbers and len(self) <= DENSE:
            return self._spread_of_few(torch.cat(self._held).double())
        if self.n_numbers > DENSE:
            return self._variances(), None
        gram = torch.zeros(self.n_numbers, self.n_numbers, dtype=torch.float64)
        for _, block in self:
            gram += block.T @ block
        values, vectors = torch.linalg.eigh(gram / len(self))
        return values.clamp(min=0), vectors

    def _spread_of_few(self, points: Tensor) -> tuple[Tensor, Tensor]:
        squares, vectors = torch.linalg.eigh(points @ points.T)
        kept = squares > _RANK * squares.max()
        squares, vectors = squares[kept], vectors[:, kept]
        return squares / len(points), points.T @ vectors / squares.sqrt()

    def _variances(self) -> Tensor:
        total = torch.zeros(self.n_numbers, dtype=torch.float64)
        for _, block in self:
            total += block.double().square().sum(dim=0)
        return total / len(self)

    def _blocks(self) -> Iterator[NDArray[np.float32]]:
        step = max(1, BLOCK_NUMBERS // self.n_numbers)
        for start in range(0, len(self), step):
            stop = start + step
            yield self._values[
                slice(start, stop) if self._rows is None else self._rows[start:stop]
            ]

    def _fit(self, normalise: Scaling) -> Scaler:
        unit = normalise == "l2"
        small = len(self) * self.n_numbers <= EXACT_NUMBERS
        dtype = torch.float64 if small else torch.float32
        mean, square = (torch.zeros(self.n_numbers, dtype=torch.float64) for _ in range(2))
        for block in self._blocks():
            mean += _rows(block, unit, dtype).double().sum(dim=0)
        mean /= len(self)
        for block in self._blocks():
            square += (_rows(block, unit, dtype).double() - mean).square_().sum(dim=0)
        deviation = (square / len(self)).sqrt()
        varies = deviation > _CONSTANT * mean.abs()
        gain = varies.double() if unit else torch.where(varies, 1 / deviation, 0.0)
        return Scaler(unit, mean, gain, dtype)


def _rows(block: NDArray[np.float32], unit: bool, dtype: torch.dtype) -> Tensor:
    """Returns a copy, with rows scaled to length sqrt(D) if `unit`; zero rows stay zero."""
    found = torch.from_numpy(np.array(block, dtype=np.float32)).to(dtype)
    if unit:
        norms = torch.linalg.vector_norm(found, dim=1, keepdim=True, dtype=torch.float64)
        found *= torch.where(norms > 0, found.shape[1] ** 0.5 / norms, 0.0).to(dtype)
    return found
