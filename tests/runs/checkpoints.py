"""Checkpoints of a tiny network, to write and read in tests."""

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from ssl_zoo.runs import checkpoint, checkpoint_writing
from ssl_zoo.runs.rng import rng_state


def load_newest(folder: Path) -> checkpoint.RunState | None:
    path = checkpoint.newest(folder)
    return checkpoint.load_state(path) if path is not None else None


def save(
    folder: Path, step: int, *, value: float = 0.0, keep: int = 2, damaged: Sequence[Path] = ()
) -> Path:
    model = nn.Linear(2, 1)
    nn.init.constant_(model.weight, value)
    facts = checkpoint.Facts(step, config={"seed": 3})
    content = checkpoint_writing.Content(
        facts, model, optimizer={"lr": 0.1}, rank={"rng": rng_state()}
    )
    return checkpoint_writing.save(
        folder, content, checkpoint_writing.Rules(keep=keep, damaged=damaged)
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
