"""Folders of a submission: kept from other submissions, and removed if it is refused."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ssl_zoo.errors import UserError
from ssl_zoo.files import locked
from ssl_zoo.runs.places import LOCK, SUBMITTING

IN_USE = ("history.jsonl", "checkpoints")
"""What only a job or a training process writes."""


@contextmanager
def reserved(folders: Sequence[Path]) -> Iterator[list[Path]]:
    """Keeps other submissions out of folders, which it creates, within a `with` block.

    Yields the folders that did not exist. If the block fails, those in this list are removed, unless
    another process has begun to use them.

    Raises:
        UserError: another process is submitting one of them, or one cannot be written.
    """
    made: list[Path] = []
    with ExitStack() as locks:
        try:
            for folder in sorted(set(folders)):  # in one order, so that one of two succeeds
                if _make(folder):
                    made.append(folder)
                if not locks.enter_context(locked(folder / SUBMITTING)):
                    raise UserError(
                        f"another process is submitting '{folder}'; wait for it, then see: "
                        "ssl-zoo jobs"
                    )
            yield made
        except BaseException:
            for folder in made:
                _remove_unused(folder)
            raise


def _make(folder: Path) -> bool:
    """Creates a folder; returns whether this process did."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
    except FileExistsError:
        if folder.is_dir():
            return False
        raise UserError(f"'{folder}' is a file, not a folder; use another --output") from None
    except OSError as error:
        raise UserError(f"'{folder}' cannot be written: {error.strerror}") from None
    return True


def _remove_unused(folder: Path) -> None:
    with suppress(OSError), locked(folder / LOCK) as nobody_trains:
        if nobody_trains and not any((folder / name).exists() for name in IN_USE):
            shutil.rmtree(folder)
