"""Features as a linear classifier sees them: normalised, centred, a block at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Scaling = Literal["standardise", "l2"]

BLOCK_NUMBERS = 1 << 22
"""Numbers that are prepared in one go."""
HELD_BYTES = 2 << 30
"""Largest prepared copy that is held; larger features are prepared anew at each pass."""
EXACT_NUMBERS = 1 << 21
"""Most numbers of all features that are prepared in float64; more are prepared in float32."""
DENSE = 4096
"""Most numbers of a feature, or most features, of which all products are computed."""
_RANK = 1e-12  # sums of squares relative to the largest below which a direction is rounding
_CONSTANT = 1e-6  # spread relative to the mean below which float32 holds nothing but rounding


@dataclass(frozen=True)
class Scaler:
    """What is done to features before a linear classifier.

    `standardise` gives each number mean 0 and standard deviation 1 over the images it was fitted
    to; `l2` gives each feature of D numbers length sqrt(D) and then each number mean 0, so that
    one range of regularisation serves both. A number that never varies becomes 0.

    Attributes:
        rows: whether each feature is brought to length sqrt(D) first.
        mean: subtracted from each number, `(D,)` float64.
        gain: factor of each number after that, `(D,)` float64.
        dtype: of prepared features.
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
    """Train features of a linear classifier, prepared.

    Args:
        values: features `(N, D)`.
        rows: which of them to use, `(n,)`; all where None.
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
        """Numbers of a feature."""
        return int(self._values.shape[1])

    def __iter__(self) -> Iterator[tuple[slice, Tensor]]:
        """Yields rows and their prepared features `(B, D)`."""
        start = 0
        held = self._held
        for block in held if held is not None else map(self.scaler, self._blocks()):
            yield slice(start, start + len(block)), block
            start += len(block)

    def spread(self) -> tuple[Tensor, Tensor | None]:
        """Returns variances `(R,)` along orthogonal directions and these `(D, R)`, as columns.

        Fewer than D features span fewer directions, and no weights of least length leave them.
        With more than `DENSE` features and numbers the directions are the axes, and None stands for
        them.
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
    """Returns a copy, with rows of length sqrt(D) if asked for; rows of zeros stay zero."""
    found = torch.from_numpy(np.array(block, dtype=np.float32)).to(dtype)
    if unit:
        norms = torch.linalg.vector_norm(found, dim=1, keepdim=True, dtype=torch.float64)
        found *= torch.where(norms > 0, found.shape[1] ** 0.5 / norms, 0.0).to(dtype)
    return found
