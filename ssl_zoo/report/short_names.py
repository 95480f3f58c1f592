"""Names shortened to a column width that stay distinct."""

from collections.abc import Sequence

DOTS = "…"
LEAST = 8
"""Minimum length of a shortened name."""


def short_names(names: Sequence[str], width: int) -> list[str]:
    """Returns names of at most `width` characters, distinct if the given ones are.

    Shared folders are removed first, then the middle of a name. If names are equal after that, each
    keeps its text from the first distinct character on, or gets a number.

    Args:
        names: names to shorten.
        width: maximum length, `LEAST` or more.
    """
    width = max(width, LEAST)
    if max(map(len, names), default=0) <= width:
        return list(names)
    bare = _without_shared_folders(names)
    for shorten in (_middle_cut, _from_first_own_letter):
        short = shorten(bare, width)
        if len(set(short)) == len(set(names)):
            return short
    return _numbered(bare, width)


def _without_shared_folders(names: Sequence[str]) -> list[str]:
    different = set(names)
    if len(different) < 2:
        return list(names)
    split = [name.split("/") for name in names]
    shared = 0
    while all(len(parts) > shared + 1 for parts in split) and (
        len({parts[shared] for parts in split}) == 1
    ):
        shared += 1
    return ["/".join(parts[shared:]) for parts in split]


def _middle_cut(names: Sequence[str], width: int) -> list[str]:
    head = (width - 1) // 2
    tail = width - 1 - head
    return [name if len(name) <= width else f"{name[:head]}{DOTS}{name[-tail:]}" for name in names]


def _from_first_own_letter(names: Sequence[str], width: int) -> list[str]:
    """Removes the common prefix of all names, except for their first letters."""
    shared = 0
    while len({name[shared : shared + 1] for name in names}) == 1 and shared < min(
        map(len, names)
    ):
        shared += 1
    keep = max(0, min(shared, (width - 1) // 3))
    return [
        name if len(name) <= width else f"{name[:keep]}{DOTS}{name[shared:]}"[:width]
        for name in names
    ]


def _numbered(names: Sequence[str], width: int) -> list[str]:
    """Appends a number to each name, equal for equal names."""
    numbers = {name: place for place, name in enumerate(dict.fromkeys(names), start=1)}
    endings = {name: f"{DOTS}{number}" for name, number in numbers.items()}
    return [f"{name[: width - len(endings[name])]}{endings[name]}" for name in names]
