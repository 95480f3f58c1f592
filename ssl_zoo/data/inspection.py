"""Finds what is wrong with images before they are trained on: damaged, tiny, huge, dark, blank, blurred and
repeated ones, and test images that are also training images."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ssl_zoo.data.base import Dataset

TINY = 32
"""Shorter side in pixels below which an image is tiny."""
HUGE = 25_000_000
"""Number of pixels above which an image is huge, which makes decoding slow."""
DARK = 0.06
"""Mean brightness, in [0, 1], below which an image is dark."""
BLANK = 0.01
"""Standard deviation of brightness below which an image is blank."""
BLURRED = 2e-4
"""Variance of the Laplacian below which an image is blurred (Pech-Pacheco et al., 2000,
doi:10.1109/ICPR.2000.903548), of brightness in [0, 1] and a shorter side of 128 pixels."""
SAME_BITS = 3
"""Largest number of different bits of two difference hashes (64 bits) of nearly the same image."""
SAME_PIXELS = 0.95
"""Smallest correlation of 16 x 16 versions of nearly the same image, as flat images have equal hashes."""
_SIDE = 128  # pixels of the shorter side of an image whose sharpness is measured
_BANDS = 4  # more than SAME_BITS, so that one of them is equal in two similar hashes

Kind = Literal[
    "unreadable", "tiny", "huge", "dark", "blank", "blurred", "repeated", "similar", "leaked"
]
MEANING: dict[Kind, str] = {
    "unreadable": "cannot be read",
    "tiny": f"have a side below {TINY} pixels",
    "huge": f"have more than {HUGE / 1e6:.0f} million pixels",
    "dark": "are dark",
    "blank": "are of a single colour",
    "blurred": "are blurred",
    "repeated": "are copies of another image",
    "similar": "are nearly the same as another image",
    "leaked": "are test images that are also training images, or nearly",
}
"""What each kind means, after a number of images."""


@dataclass(frozen=True)
class Finding:
    """An image with something wrong.

    Attributes:
        kind: what is wrong.
        image: path or position of the image.
        detail: why it cannot be read, the other image, or a measured value.
    """

    kind: Kind
    image: str
    detail: str = ""


@dataclass
class Inspection:
    """What is wrong with the images of a data set.

    Attributes:
        n_images: number of images that were looked at.
        findings: what was found, in the order of `MEANING`.
    """

    n_images: int = 0
    findings: list[Finding] = field(default_factory=list)

    def of(self, kind: Kind) -> list[Finding]:
        """Returns the findings of one kind."""
        return [one for one in self.findings if one.kind == kind]

    def lines(self) -> list[str]:
        """Returns a line for each kind that was found, with an example."""
        found = []
        for kind, meaning in MEANING.items():
            some = self.of(kind)
            if some:
                detail = f" ({some[0].detail})" if some[0].detail else ""
                share = 100 * len(some) / max(self.n_images, 1)
                found.append(
                    f"{kind}: {len(some):,} images ({share:.1f} %) {meaning}, such as "
                    f"'{some[0].image}'{detail}"
                )
        return found


def inspect_images(
    train: Dataset,
    test: Dataset | None = None,
    *,
    advance: Callable[[int], None] = lambda n: None,
) -> Inspection:
    """Looks at all images of one or two splits.

    Args:
        train: training images.
        test: test images; None if they are the training images.
        advance: called with the number of images that were looked at since the last call.
    """
    looked = Inspection()
    seen = _Seen()
    for dataset, is_test in ((train, False), (test, True)):
        if dataset is None:
            continue
        for name, image, fault in _images(dataset):
            advance(1)
            looked.n_images += 1
            if image is None:
                looked.findings.append(Finding("unreadable", name, fault))
            else:
                looked.findings += _look(name, image)
                seen.add(name, image, is_test=is_test)
    looked.findings += seen.repeated()
    order = list(MEANING)
    looked.findings.sort(key=lambda one: order.index(one.kind))
    return looked


def _images(dataset: Dataset) -> Iterator[tuple[str, Tensor | None, str]]:
    """Yields name, pixels, and the reason if there are none, of each image."""
    for place in range(len(dataset)):
        image = dataset.load(torch.tensor([place]))[0]
        fault = "" if image is not None else dataset.fault(place) or "damaged"
        yield dataset.describe(place), image, fault


def _look(name: str, image: Tensor) -> list[Finding]:
    """Returns what is wrong with the pixels of an image `(C, H, W)`."""
    found = []
    height, width = image.shape[-2:]
    if min(height, width) < TINY:
        found.append(Finding("tiny", name, f"{width}x{height}"))
    if height * width > HUGE:
        found.append(Finding("huge", name, f"{width}x{height}"))
    grey = _brightness(image, _SIDE)
    if float(grey.std()) < BLANK:
        return [*found, Finding("blank", name)]
    if float(grey.mean()) < DARK:
        found.append(Finding("dark", name, f"mean brightness {float(grey.mean()):.3f}"))
    elif min(height, width) >= _SIDE and (sharpness := _sharpness(grey)) < BLURRED:
        found.append(Finding("blurred", name, f"variance of the Laplacian {sharpness:.1e}"))
    return found


def _brightness(image: Tensor, side: int | tuple[int, int]) -> Tensor:
    """Returns the mean over channels in [0, 1], `(1, 1, h, w)`, resized to a shorter side or a size."""
    scale = 255.0 if image.dtype == torch.uint8 else 1.0
    grey = image.float().mean(dim=0)[None, None] / scale
    if isinstance(side, int):
        ratio = side / min(grey.shape[-2:])
        if ratio >= 1:
            return grey
        size = tuple(max(1, round(length * ratio)) for length in grey.shape[-2:])
    else:
        size = side
    return functional.interpolate(grey, size, mode="bilinear", align_corners=False, antialias=True)


def _sharpness(grey: Tensor) -> float:
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]
    return float(functional.conv2d(grey, kernel).var())


def difference_hash(image: Tensor) -> int:
    """Returns 64 bits that tell which neighbours in a 9 x 8 version of an image `(C, H, W)` are brighter.

    Nearly the same for copies of other size or quality (Krawetz, 2013, "Kind of like that").
    """
    small = _brightness(image, (8, 9))[0, 0]
    bits = (small[:, 1:] > small[:, :-1]).flatten().numpy()
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


class _Seen:
    """Images by content, to find those that occur more than once."""

    def __init__(self) -> None:
        self._first: dict[bytes, int] = {}
        self._copies: list[tuple[int, int]] = []
        self._names: list[str] = []
        self._is_test: list[bool] = []
        self._hashes: list[int] = []
        self._hashed: list[int] = []
        self._small: list[NDArray[np.float16]] = []

    def add(self, name: str, image: Tensor, *, is_test: bool) -> None:
        """Remembers an image `(C, H, W)`."""
        place = len(self._names)
        self._names.append(name)
        self._is_test.append(is_test)
        shape = np.array(image.shape).tobytes()
        key = hashlib.blake2b(shape + image.numpy().tobytes(), digest_size=16).digest()
        first = self._first.setdefault(key, place)
        if first != place:
            self._copies.append((place, first))
        elif float(_brightness(image, _SIDE).std()) >= BLANK:
            self._hashes.append(difference_hash(image))
            self._hashed.append(place)
            self._small.append(_standardised(_brightness(image, (16, 16))))

    def repeated(self) -> list[Finding]:
        """Returns images that are copies of, or similar to, one that came before."""
        found = [self._finding("repeated", *pair) for pair in self._copies]
        return found + [self._finding("similar", *pair) for pair in self._similar()]

    def _finding(self, kind: Kind, place: int, other: int) -> Finding:
        crosses = self._is_test[place] != self._is_test[other]
        return Finding("leaked" if crosses else kind, self._names[place], self._names[other])

    def _similar(self) -> list[tuple[int, int]]:
        """Returns pairs of an image and an earlier one with nearly the same hash, one per image."""
        values = np.array(self._hashes, dtype=np.uint64)
        small = np.array(self._small)
        found: dict[int, int] = {}
        for band in range(_BANDS):
            groups: dict[int, list[int]] = defaultdict(list)
            width = 64 // _BANDS
            for row, value in enumerate(self._hashes):
                groups[value >> (band * width) & (1 << width) - 1].append(row)
            for rows in groups.values():
                _pairs(np.array(rows), values, small, found)
        return [(self._hashed[row], self._hashed[other]) for row, other in sorted(found.items())]


def _standardised(grey: Tensor) -> NDArray[np.float16]:
    """Returns an image as a vector whose products with others are correlations."""
    values = grey.flatten() - grey.mean()
    unit: NDArray[np.float16] = (values / values.norm().clamp(min=1e-6)).numpy().astype(np.float16)
    return unit


def _count_bits(values: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Returns the number of bits that are set in each value."""
    counts: NDArray[np.int64]
    counts = np.unpackbits(values[:, None].view(np.uint8), axis=1).sum(axis=1, dtype=np.int64)
    return counts


def _pairs(
    rows: NDArray[np.int64],
    values: NDArray[np.uint64],
    small: NDArray[np.float16],
    found: dict[int, int],
) -> None:
    """Adds to each row the first earlier row with nearly the same hash and pixels."""
    for at in range(1, len(rows)):
        row = int(rows[at])
        different = _count_bits(values[rows[:at]] ^ values[row])
        near = rows[:at][different <= SAME_BITS]
        near = near[small[near].astype(np.float32) @ small[row] >= SAME_PIXELS]
        if len(near):
            found[row] = min(int(near[0]), found.get(row, len(values)))
