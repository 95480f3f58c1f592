"""Channels, bits and sizes of image files, from a sample of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ssl_zoo.data.base import Bits, Dataset
from ssl_zoo.data.decoding import bits_of, read_raster
from ssl_zoo.data.other_files import BadImage
from ssl_zoo.errors import UserError

SAMPLED = 50
"""Number of files that are read."""
_EXPECTED = Dataset.Config(name="any")


@dataclass(frozen=True)
class Sampled:
    """What a sample of image files has in common.

    Attributes:
        channels: channels, without opacity; 3 if only some images are grey.
        bits: bits of each value.
        sizes: width and height of each image that could be read.
        value_range: smallest and largest value, if they are not those that `bits` means.
    """

    channels: int = 3
    bits: Bits = 8
    sizes: tuple[tuple[int, int], ...] = ()
    value_range: tuple[float, float] | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of a data set, except those that have their default."""
        found: dict[str, Any] = {}
        if self.channels != 3:
            found["channels"] = self.channels
        if self.bits != 8:
            found["bits"] = self.bits
        if self.value_range is not None:
            found["value_range"] = list(self.value_range)
        return found

    def size_text(self) -> str:
        """Returns the sizes in words."""
        if not self.sizes:
            return "of unknown size"
        if len(set(self.sizes)) == 1:
            return "{}x{} pixels".format(*self.sizes[0])
        shorter = sorted(min(size) for size in self.sizes)
        return f"shorter sides of {shorter[0]} to {shorter[-1]} pixels"


def sample_files(paths: Sequence[Path]) -> Sampled:
    """Reads files that are spread evenly over a list.

    Grey images of 8 bits count as images of three channels, as networks and augmentations expect; of
    other depths they have one.

    Raises:
        UserError: images differ in channels or bits, or a package is missing.
    """
    rows = np.unique(np.linspace(0, len(paths) - 1, min(len(paths), SAMPLED)).astype(int))
    kinds: dict[tuple[int, Bits], Path] = {}
    sizes, low, high = [], math.inf, -math.inf
    for path in (paths[row] for row in rows.tolist()):
        try:
            found = read_raster(path, _expected(path))
        except BadImage:
            continue
        bits = bits_of(found.values.dtype)
        channels = found.channels - found.alpha
        kinds.setdefault((3 if channels == 1 and bits == 8 else channels, bits), path)
        sizes.append((found.values.shape[1], found.values.shape[0]))
        if bits == 32:
            low = min(low, float(np.nanmin(found.values)))
            high = max(high, float(np.nanmax(found.values)))
    if not kinds:
        return Sampled()
    if len(kinds) > 1:
        (one, first), (other, second) = list(kinds.items())[:2]
        raise UserError(
            f"images differ: '{first}' has {_text(*one)}, '{second}' has {_text(*other)}; put them into "
            "folders of their own, or convert them"
        )
    ((channels, bits),) = kinds
    limits = (low, high) if bits == 32 and low < high and (low < 0 or high > 1) else None
    return Sampled(channels, bits, tuple(sizes), limits)


def _expected(path: Path) -> Dataset.Config:
    """Returns what a file is expected to hold; of an array, the shorter outer axis is that of channels."""
    if path.suffix.lower() != ".npy":
        return _EXPECTED
    try:
        shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
    except (OSError, ValueError, EOFError):
        return _EXPECTED
    n = min(shape[0], shape[2]) if len(shape) == 3 else 3
    return Dataset.Config(name="any", channels=n, mean=(0.0,) * n, std=(1.0,) * n)


def _text(channels: int, bits: Bits) -> str:
    return f"{channels} channel{'' if channels == 1 else 's'} of {bits} bits"
