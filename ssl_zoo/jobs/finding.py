"""Finds runs by path and by name, and all runs in a folder."""

import re
from pathlib import Path

from ssl_zoo.errors import UserError
from ssl_zoo.runs.places import runs_folder

DEPTH = 3
"""Depth of folders searched for runs."""


def run_name(folder: Path) -> str:
    """Returns the name of a run in commands: its relative path, or its name in the runs folder."""
    path = folder.absolute()
    for base in (Path.cwd(), runs_folder().absolute()):
        if path != base and path.is_relative_to(base):
            return str(path.relative_to(base))
    return str(path)


def find_run(text: str) -> Path:
    """Returns the run folder of a path, or of a name in the runs folder.

    Raises:
        UserError: it does not exist.
    """
    for folder in (Path(text), runs_folder() / text):
        if is_run(folder):
            return folder
    if Path(text).is_dir():
        raise UserError(f"'{text}' is not a run folder; see: ssl-zoo jobs {text}")
    from ssl_zoo.config import closest

    names = [run_name(folder) for folder in find_runs(runs_folder())]
    raise UserError(f"there is no run '{text}'.{closest(text, names)} See: ssl-zoo jobs")


def find_runs(root: Path) -> list[Path]:
    """Returns the run folders in a folder, three levels deep, in natural order.

    Inside a run folder only its direct scoring jobs are found.
    """
    found: list[Path] = []
    _collect(root, DEPTH, found)
    return sorted(found, key=lambda path: [_natural(part) for part in path.parts])


def is_run(folder: Path) -> bool:
    """Returns whether this is the folder of a run, or of a job that scores or ranks."""
    asked = any(
        (folder / name).is_file() for name in ("config.yaml", "evaluate.json", "compare.json")
    )
    return asked and any((folder / name).exists() for name in ("history.jsonl", "checkpoints"))


def _collect(folder: Path, depth: int, found: list[Path]) -> None:
    is_here = is_run(folder)
    if is_here:
        found.append(folder)
    if depth == 0:
        return
    try:
        below = [path for path in folder.iterdir() if path.is_dir() and path.name[0] != "."]
    except OSError:
        return
    for path in below:
        if not is_here:
            _collect(path, depth - 1, found)
        elif (path / "evaluate.json").is_file() and is_run(path):
            found.append(path)


def _natural(text: str) -> list[tuple[str, int]]:
    """Returns a key that sorts `point-2` before `point-10`."""
    return [(word, int(number or 0)) for word, number in re.findall(r"(\D*)(\d*)", text)]
