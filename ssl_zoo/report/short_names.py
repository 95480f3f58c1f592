"""Names that fit a column and still tell its rows apart."""

from collections.abc import Sequence

DOTS = "…"
LEAST = 8
"""Letters that a name keeps at least."""


def short_names(names: Sequence[str], width: int) -> list[str]:
    """Returns names of at most `width` letters, no two equal where the given ones differ.

    Folders that all share go first, then the middle of a name; where that leaves equal ones, each
    keeps what comes from its first own letter on, or a number.

    Args:
        names: what is to be shortened.
        width: letters of a name, `LEAST` or more.
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
    """Cuts off what all names begin with, but for their first letters."""
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
    """Puts a number behind each name, the same one for equal names."""
    numbers = {name: place for place, name in enumerate(dict.fromkeys(names), start=1)}
    endings = {name: f"{DOTS}{number}" for name, number in numbers.items()}
    return [f"{name[: width - len(endings[name])]}{endings[name]}" for name in names]
