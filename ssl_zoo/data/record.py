"""What a checkpoint remembers of its training images, to tell later whether they have changed."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssl_zoo.data.base import Dataset

N_PARTS = 1024
"""Largest number of parts of a data set whose digests are remembered."""
N_CLASS_NAMES = 1000
"""Largest number of class names that are remembered."""
_DIGITS = 8  # hexadecimal digits of the digest of a part
_NAMED = 3  # classes named in a message


@dataclass(frozen=True)
class DataRecord:
    """The images of a split.

    Attributes:
        fingerprint: digest of their content.
        n_images: number of images.
        n_classes: number of classes.
        class_names: their names; empty if there are too many.
        part_size: number of consecutive images in a part.
        parts: digests of the parts, 8 hexadecimal digits each; empty if the data set has no digests of
            images.
        changes: changes that were accepted during the run.
    """

    fingerprint: str
    n_images: int
    n_classes: int = 0
    class_names: tuple[str, ...] = ()
    part_size: int = 1
    parts: str = ""
    changes: tuple[str, ...] = ()


def record_of(dataset: Dataset, *, changes: Sequence[str] = ()) -> DataRecord:
    """Returns the record of a split; reads its images, or a sample of them."""
    part_size = math.ceil(len(dataset) / N_PARTS) or 1
    names = dataset.class_names
    return DataRecord(
        fingerprint=dataset.fingerprint,
        n_images=len(dataset),
        n_classes=len(names),
        class_names=tuple(names) if len(names) <= N_CLASS_NAMES else (),
        part_size=part_size,
        parts="".join(_parts(dataset.image_digests, part_size)),
        changes=tuple(changes),
    )


def changes_since(before: DataRecord, dataset: Dataset) -> str:
    """Returns how a split differs from a record in words; empty if it does not.

    Example: `24 images then, 16 now; class 'dog' is gone; the first difference is at 'data/cat/7.png'`.
    """
    if dataset.fingerprint == before.fingerprint:
        return ""
    found = []
    if len(dataset) != before.n_images:
        found.append(f"{before.n_images} images then, {len(dataset)} now")
    found += _class_differences(before, dataset.class_names)
    found += _first_difference(before, dataset)
    return "; ".join(found) or "other content"


def _class_differences(before: DataRecord, names: list[str]) -> list[str]:
    if len(names) != before.n_classes and not (before.class_names and names):
        return [f"{before.n_classes} classes then, {len(names)} now"]
    if not before.class_names:
        return []
    gone = [name for name in before.class_names if name not in set(names)]
    new = [name for name in names if name not in set(before.class_names)]
    return [
        f"{'class' if len(some) == 1 else 'classes'} {_listed(some)} {verb}"
        for some, verb in (
            (gone, "is gone" if len(gone) == 1 else "are gone"),
            (new, "is new" if len(new) == 1 else "are new"),
        )
        if some
    ]


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(f"'{name}'" for name in names[:_NAMED]) + more


def _first_difference(before: DataRecord, dataset: Dataset) -> list[str]:
    now = _parts(dataset.image_digests, before.part_size)
    then = [before.parts[at : at + _DIGITS] for at in range(0, len(before.parts), _DIGITS)]
    pairs = zip(then, now, strict=False)
    equal = next((n for n, (one, other) in enumerate(pairs) if one != other), len(then))
    start = equal * before.part_size
    if not before.parts or start >= len(dataset):
        return []
    stop = min(start + before.part_size, len(dataset)) - 1
    upto = f" to '{dataset.describe(stop)}'" if stop > start else ""
    return [f"the first difference is at '{dataset.describe(start)}'{upto}"]


def _parts(digests: NDArray[np.uint64] | None, part_size: int) -> list[str]:
    """Returns digests of consecutive images, a part each."""
    if digests is None:
        return []
    return [
        hashlib.sha256(digests[start : start + part_size].tobytes()).hexdigest()[:_DIGITS]
        for start in range(0, len(digests), part_size)
    ]
