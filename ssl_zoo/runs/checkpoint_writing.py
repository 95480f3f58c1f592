"""Writes checkpoints crash-safely: to a temporary folder, checksummed, then renamed.

What a checkpoint holds, and how it is found, verified and read, is in `ssl_zoo.runs.checkpoint`.
"""

import json
import os
import shutil
import uuid
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from ssl_zoo import distributed
from ssl_zoo.errors import Superseded, UserError
from ssl_zoo.files import sha256, sync_folder, write_text
from ssl_zoo.runs.checkpoint import (
    MANIFEST,
    MODEL,
    OPTIMIZER,
    Facts,
    Manifest,
    folder_name,
    found,
    step_of,
)
from ssl_zoo.runs.tensor_files import save_tensors

MayWrite = Callable[[], bool]


@dataclass(frozen=True)
class Content:
    """The contribution of one rank to a checkpoint.

    Attributes:
        model: state of the whole method; written by rank 0.
        optimizer: state of the optimizer; written by rank 0.
        rank: state of this rank.
    """

    facts: Facts
    model: nn.Module
    optimizer: dict[str, Any]
    rank: dict[str, Any]


def save(
    folder: Path,
    content: Content,
    *,
    keep: int = 2,
    best: int | None = None,
    may_write: MayWrite = lambda: True,
    damaged: Collection[Path] = (),
) -> Path:
    """Writes a checkpoint; all ranks must call it.

    Args:
        folder: folder of the checkpoints.
        content: contribution of this rank.
        keep: number of newest checkpoints to keep.
        best: step of a checkpoint to keep whatever its age.
        may_write: called on rank 0 before every rename and every removal; if false, nothing more is
            changed.
        damaged: checkpoints that this run found damaged when it resumed; they are removed.

    Raises:
        Superseded: this process is no longer allowed to write.
        UserError: the files cannot be written; earlier checkpoints are kept.
    """
    step = content.facts.step
    final = folder / folder_name(step)
    # The name is unique to this process: a stale process of an earlier start may be at the same step.
    nonce = distributed.broadcast_object(uuid.uuid4().hex[:8])
    aside = folder / f".writing-step-{step:08d}-{nonce}"
    error = _attempt(lambda: aside.mkdir(parents=True)) if distributed.is_main() else None
    error = distributed.broadcast_object(error)
    digests: dict[str, str] = {}
    if error is None:
        error = _attempt(lambda: digests.update(_write(aside, content)))
    outcomes = distributed.all_gather_object((error, digests))
    error = next((found for found, _ in outcomes if found is not None), None)
    if error is None and distributed.is_main():
        checksums = {name: digest for _, part in outcomes for name, digest in part.items()}
        manifest = Manifest(
            **vars(content.facts), world_size=distributed.world_size(), sha256=checksums
        )
        error = _attempt(lambda: _publish(aside, final, manifest, may_write))
        error = error or _attempt(lambda: _prune(final, keep, best, damaged, may_write))
    if error is not None and distributed.is_main():
        shutil.rmtree(aside, ignore_errors=True)
        error = _attempt(lambda: _check_owner(folder, may_write)) or error
    error = distributed.broadcast_object(error)
    if isinstance(error, Superseded):
        raise error
    if error is not None:
        raise UserError.everywhere(
            f"checkpoint of step {step} cannot be written to '{folder}': {_describe(error)}; "
            f"{_last_good(folder)}. Make room or repair the folder, then start the same command again"
        )
    return final


def _attempt(action: Callable[[], None]) -> Exception | None:
    """Runs a function that writes files; returns the error that prevented it, if any."""
    try:
        action()
    except (OSError, RuntimeError, SafetensorError, Superseded) as error:
        return error  # libraries raise different errors for a full disk
    return None


def _write(aside: Path, content: Content) -> dict[str, str]:
    """Writes this rank's files and returns their digests."""
    name = f"rank-{distributed.rank()}.pt"
    digests = {name: _write_torch(aside / name, content.rank)}
    if distributed.is_main():
        digests[MODEL] = _write_model(aside / MODEL, content.model)
        digests[OPTIMIZER] = _write_torch(aside / OPTIMIZER, content.optimizer)
    return digests


def _publish(aside: Path, final: Path, manifest: Manifest, may_write: MayWrite) -> None:
    """Makes a complete checkpoint visible under its name, atomically and safe from a power cut."""
    write_text(aside / MANIFEST, json.dumps(asdict(manifest), indent=1))
    sync_folder(aside)
    # Any write above may hang for hours on a lost node, and wake after another start took over.
    _check_owner(final.parent, may_write)
    if final.exists():
        final.rename(aside.with_name(f"{aside.name}.old"))
        _check_owner(final.parent, may_write)
    aside.rename(final)
    sync_folder(final.parent)
    _check_owner(final.parent, may_write)


def _check_owner(folder: Path, may_write: MayWrite) -> None:
    if not may_write():
        raise Superseded.everywhere(
            f"another start has taken over '{folder}'; this process stops here"
        )


def _write_model(path: Path, model: nn.Module) -> str:
    save_tensors(path, model)
    return _finish(path)


def _write_torch(path: Path, value: dict[str, Any]) -> str:
    torch.save(value, path)
    return _finish(path)


def _finish(path: Path) -> str:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return sha256(path)


def _prune(
    newest: Path, keep: int, best: int | None, damaged: Collection[Path], may_write: MayWrite
) -> None:
    """Removes old checkpoints, damaged ones and leftovers of earlier starts.

    Others that are newer than this one are not known to be damaged: they are kept.
    """
    older = [path for path in found(newest.parent) if step_of(path) <= step_of(newest)]
    older = [path for path in older if path not in damaged]
    old = [path for path in older[keep:] if step_of(path) != best]
    broken = [path for path in damaged if path != newest and path.exists()]
    for path in [*broken, *old, *newest.parent.glob(".writing-*")]:
        _check_owner(newest.parent, may_write)
        shutil.rmtree(path, ignore_errors=True)


def _last_good(folder: Path) -> str:
    good = found(folder)
    return f"the last good one is '{good[0].name}'" if good else "there is no earlier one"


def _describe(error: Exception) -> str:
    text = getattr(error, "strerror", None) or (str(error) or type(error).__name__).splitlines()[0]
    return "no space left on device" if "No space left" in str(error) else text
