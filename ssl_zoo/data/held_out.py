"""Holds out a share of the images for scoring: `data.test=20%`.

Which images are held out depends on a seed and on their names, not on their order or number: images that
are added later move few others from one split to the other.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from ssl_zoo.config import Config
from ssl_zoo.errors import UserError

HELD_OUT = "20%"
"""Share of labelled images that is held out for scoring if there is no test split."""


class HeldOutConfig(Config):
    """Settings of data whose test images may be a share of the training images."""

    test: str
    """Where the test images are, or the share of the training images that is held out, such as `20%`."""
    split_seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of the choice of images that are held out."""

    @field_validator("test")
    @classmethod
    def _check_share(cls, value: str) -> str:
        share_of(value)
        return value

    @property
    def share(self) -> Fraction | None:
        """The share that is held out; None if the test images are elsewhere."""
        return share_of(self.test)


def share_of(text: str) -> Fraction | None:
    """Returns the share in a text such as `20%`; None for other text, such as the name of a folder.

    Raises:
        ValueError: it is not between 0 and 100 %.
    """
    found = re.fullmatch(r"\s*(\d{1,3}(?:\.\d{1,6})?)\s*%\s*", text)
    if found is None:
        return None
    share = Fraction(found[1]) / 100
    if not 0 < share < 1:
        raise ValueError(f"a share of {text.strip()} leaves one split empty; use for example 20%")
    return share


def held_out(
    names: Sequence[bytes],
    share: Fraction,
    *,
    seed: int,
    labels: NDArray[np.int64] | None = None,
    groups: Sequence[str] | None = None,
) -> NDArray[np.bool_]:
    """Returns which images are held out, `(N,)`.

    With labels `(N,)`, the share holds for each class, and a class with two images or more is in both
    splits. With groups, such as the patient or video of each image, a group is never split: groups are
    taken in random order as long as that brings the counts of all classes nearer to the share.

    Args:
        names: name of each image.
        share: share of the images to hold out.
        seed: seed of the choice.
        labels: class of each image, -1 for none.
        groups: group of each image.

    Raises:
        UserError: a split would be empty.
    """
    classes = np.full(len(names), -1) if labels is None else labels
    if groups is None:
        chosen = _by_class(_order(names, seed), classes, share)
    else:
        chosen = _by_group(groups, classes, share, seed)
    if chosen.all() or not chosen.any():
        units = f"{len(names)} images" if groups is None else f"{len(set(groups))} groups"
        raise UserError(
            f"{float(share):.4g} of {units} cannot be held out without an empty split; change data.test, "
            "or use more images"
        )
    return chosen


def _order(names: Sequence[bytes], seed: int) -> NDArray[np.int64]:
    """Returns positions in an order that is random but depends only on names and seed."""
    salt = str(seed).encode() + b"\0"
    keys = [hashlib.blake2b(salt + name, digest_size=8).digest() for name in names]
    return np.argsort(np.frombuffer(b"".join(keys), dtype=">u8"), kind="stable")


def _by_class(
    order: NDArray[np.int64], classes: NDArray[np.int64], share: Fraction
) -> NDArray[np.bool_]:
    chosen = np.zeros(len(order), dtype=bool)
    together = order[np.argsort(classes[order], kind="stable")]
    _, starts = np.unique(classes[together], return_index=True)
    for members in np.split(together, starts[1:]):
        count = round(share * len(members))
        if len(members) > 1:
            count = min(max(count, 1), len(members) - 1)
        chosen[members[:count]] = True
    return chosen


def _by_group(
    groups: Sequence[str], classes: NDArray[np.int64], share: Fraction, seed: int
) -> NDArray[np.bool_]:
    members: dict[str, list[int]] = defaultdict(list)
    for place, group in enumerate(groups):
        members[group].append(place)
    names = list(members)
    _, dense = np.unique(classes, return_inverse=True)
    wanted = float(share) * np.bincount(dense)
    taken = np.zeros_like(wanted)
    chosen = np.zeros(len(groups), dtype=bool)
    for place in _order([name.encode() for name in names], seed):
        rows = members[names[place]]
        more = taken + np.bincount(dense[rows], minlength=len(wanted))
        if np.abs(wanted - more).sum() < np.abs(wanted - taken).sum():
            chosen[rows], taken = True, more
    return chosen
