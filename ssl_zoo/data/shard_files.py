"""Names of shards: patterns such as `train-{000000..000099}.tar`, lists in a file, folders."""

import itertools
import os
import re
from pathlib import Path
from typing import Any

from ssl_zoo.data.base import Split
from ssl_zoo.data.contents import USUAL_NAMES
from ssl_zoo.data.held_out import HELD_OUT
from ssl_zoo.data.shard_index import Shard, known_shards
from ssl_zoo.data.walk import is_image
from ssl_zoo.errors import UserError

TAR = ".tar"
LIST = ".txt"
CLASSES = "classes.txt"
"""File beside shards with the name of a class in each line, the first of class 0."""
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}|\{([^{}]*)\}")
_SPECIAL = re.compile(r"[*?\[{]")
_NUMBERED = re.compile(r"(?P<name>.*?)[-_.]*\d*\.tar")
_LOOKED_AT = 2**16  # bytes of a text that may be a list
_NAMED = 3  # files named in a message


def matching_shards(root: Path, pattern: str, *, setting: str) -> list[Path]:
    """Returns the shards that a pattern, or a file that lists shards, stands for.

    Args:
        root: folder that names are relative to.
        pattern: a name with `*`, `?`, `[]`, `{000..099}` or `{a,b}`, or a .txt file of one name a line.
        setting: where the pattern was set, for errors.

    Raises:
        UserError: there is no such shard.
    """
    if pattern.endswith(LIST):
        found = _listed(root / Path(pattern).expanduser())
    else:
        found = []
        for name in expanded(pattern):
            if re.search(r"[*?\[]", name):
                found += sorted(path for path in root.glob(name) if path.name[0] != ".")
            else:
                found.append(root / name)
    if not found:
        raise UserError(
            f"no shard in '{root}' is named '{pattern}'; set {setting} to the names of those that are: "
            f"{_in_folder(root)}"
        )
    missing = [path for path in found if not path.is_file()]
    if missing:
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        names = ", ".join(f"'{path}'" for path in missing[:_NAMED])
        raise UserError(
            f"{len(missing)} of {len(found)} shards of '{pattern}' do not exist: {names}{more}; restore "
            f"them, or set {setting} to the others"
        )
    if len(set(found)) < len(found):
        raise UserError(f"'{pattern}' names a shard twice; name each once in {setting}")
    return found


def expanded(pattern: str) -> list[str]:
    """Returns the names that braces stand for, as a shell and webdataset expand them.

    Raises:
        UserError: a range goes down.
    """
    parts, end = list[list[str]](), 0
    for found in _RANGE.finditer(pattern):
        parts.append([pattern[end : found.start()]])
        end = found.end()
        if found[3] is not None:
            parts.append(found[3].split(","))
            continue
        first, last = int(found[1]), int(found[2])
        if last < first:
            raise UserError(
                f"'{found[0]}' in '{pattern}' goes down; write the smaller number first"
            )
        parts.append([f"{number:0{len(found[1])}d}" for number in range(first, last + 1)])
    return ["".join(each) for each in itertools.product(*parts, [pattern[end:]])]


def _listed(file: Path) -> list[Path]:
    """Returns the shards that a file lists, relative to it."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise UserError(f"list '{file}' cannot be read: {reason.lower()}") from None
    names = [line.strip() for line in lines]
    found = [file.parent / name for name in names if name and not name.startswith("#")]
    strange = [path for path in found if not path.name.endswith(TAR)]
    if strange:
        raise UserError(
            f"list '{file}' names '{strange[0].name}', which is not a .tar file; give one shard a line"
        )
    return found


def _in_folder(root: Path) -> str:
    names = sorted(path.name for path in root.glob(f"*{TAR}")) if root.is_dir() else []
    if not names:
        return "it has no .tar files"
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"


def is_shards(text: str) -> bool:
    """Returns whether a path is that of shards: a folder, a file, a pattern or a list."""
    path = Path(text).expanduser()
    if path.is_dir():
        return bool(_in_splits(path)) or (
            any(path.glob(f"*{TAR}")) and not any(is_image(name) for name in os.listdir(path))
        )
    if text.endswith(TAR):
        return path.is_file() or bool(_SPECIAL.search(text))
    return text.endswith(LIST) and path.is_file() and _names_shards(path)


def _names_shards(file: Path) -> bool:
    """Returns whether some line at the start of a text is the name of a shard."""
    try:
        with file.open("rb") as opened:
            lines = opened.read(_LOOKED_AT).splitlines()
    except OSError:
        return False
    return any(line.strip().endswith(TAR.encode()) for line in lines)


def shard_settings(text: str) -> tuple[dict[str, Any], str]:
    """Returns the settings of the data set of shards at a path, and its content in words.

    Raises:
        UserError: a shard does not exist or cannot be read, or holds no images.
    """
    root, train, test = _splits(text)
    shards = known_shards(matching_shards(root, train, setting="data.train"))
    count = sum(shard.count for shard in shards)
    if not count:
        raise no_images_in(shards)
    labelled = any(shard.classes for shard in shards)
    settings = {
        "name": "shards",
        "root": str(root),
        "train": train,
        "test": test or (HELD_OUT if labelled else train),
    }
    n_classes = len({name for shard in shards for name in shard.classes})
    classes = f"{n_classes:,} classes" if labelled else "no classes"
    files = f"{len(shards):,} shard{'s' * (len(shards) > 1)}"
    return settings, f"{count:,} images in {files}, {classes}"


def no_images_in(shards: list[Shard]) -> UserError:
    """Returns the error for shards without a single image."""
    return UserError(
        f"shard '{shards[0].path}' contains no images"
        f"{f', nor do {len(shards) - 1} others' if len(shards) > 1 else ''}; shards hold files such as "
        "KEY.jpg and KEY.cls"
    )


def _splits(text: str) -> tuple[Path, str, str | None]:
    """Returns folder, training shards and test shards, None if no name says which these are."""
    path = Path(text).expanduser()
    if not path.is_dir():
        parts = path.parts
        fixed = next(
            (n for n, part in enumerate(parts[:-1]) if _SPECIAL.search(part)), len(parts) - 1
        )
        return Path(*parts[:fixed]), os.path.join(*parts[fixed:]), None
    inside = _in_splits(path)
    if inside:
        return path, f"{inside[0]}/*{TAR}", f"{inside[1]}/*{TAR}" if inside[1:] else None
    names = {_stem(file.name) for file in path.glob(f"*{TAR}") if file.name[0] != "."}
    train, test = (_usual(names, split) for split in ("train", "test"))
    if train is None:
        return path, f"*{TAR}", None
    return path, f"{train}*{TAR}", f"{test}*{TAR}" if test else None


def _in_splits(path: Path) -> list[str]:
    """Returns the folders of training and test shards in a folder: `train` and perhaps `val`."""
    if any(path.glob(f"*{TAR}")):
        return []
    names = {file.parent.name for file in path.glob(f"*/*{TAR}")}
    train, test = (_usual(names, split) for split in ("train", "test"))
    return [name for name in (train, test) if name] if train else []


def _usual(names: set[str], split: Split) -> str | None:
    lower = {name.lower(): name for name in sorted(names)}
    return next((lower[one] for one in USUAL_NAMES[split] if one in lower), None)


def _stem(name: str) -> str:
    found = _NUMBERED.fullmatch(name)
    return found["name"] if found else name
