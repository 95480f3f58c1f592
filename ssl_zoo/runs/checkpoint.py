"""Crash-safe checkpoints: written to a temporary folder, checksummed, renamed, verified on load.

A checkpoint is a folder `step-00001234`: `model.safetensors` (the whole method), `optimizer.pt`,
`rank-K.pt` (state that differs between ranks) and `manifest.json` (config, sizes, SHA-256 of each file).
Nothing that could run code is loaded: safetensors, and `torch.load(weights_only=True)`.
"""

import errno
import json
import logging
import os
import pickle
import re
import shutil
import uuid
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import NonNegativeInt, PositiveInt, TypeAdapter
from safetensors import SafetensorError
from torch import Tensor, nn

from ssl_zoo import distributed
from ssl_zoo._version import __version__
from ssl_zoo.data.record import DataRecord
from ssl_zoo.errors import Superseded, UserError
from ssl_zoo.files import sha256, sync_folder, write_text
from ssl_zoo.runs.tensor_files import load_tensors, save_tensors

logger = logging.getLogger(__name__)

FORMAT = 1
MANIFEST = "manifest.json"
MODEL = "model.safetensors"
OPTIMIZER = "optimizer.pt"
MayWrite = Callable[[], bool]


class DamagedCheckpoint(UserError):
    """A checkpoint with missing, truncated or modified files."""


@dataclass(frozen=True)
class Facts:
    """The facts of a checkpoint, in addition to its tensors.

    Attributes:
        step: number of optimizer steps taken.
        config: resolved settings of the run.
        epoch: passes over the images, with a fraction within an epoch.
        exported: name of the submodule to evaluate and export.
        backbone: settings that build this network.
        image_size: height and width of the global crops, in pixels.
        data: the images that it was trained on; None in checkpoints of earlier versions.
        arithmetic: what rounding depends on; see `ssl_zoo.runs.arithmetic`.
    """

    step: NonNegativeInt
    config: dict[str, Any]
    epoch: float = 0.0
    exported: str = ""
    backbone: dict[str, Any] = field(default_factory=dict)
    image_size: int = 0
    arithmetic: dict[str, str] = field(default_factory=dict)
    data: DataRecord | None = None


@dataclass(frozen=True)
class Manifest(Facts):
    """The facts of a written checkpoint.

    Attributes:
        world_size: number of ranks that wrote it.
        sha256: digest of each file, by name.
        format: version of these fields and of the files.
        ssl_zoo: version of ssl-zoo that wrote it.
        torch: version of torch that wrote it.
    """

    world_size: PositiveInt = 1
    sha256: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT
    ssl_zoo: str = __version__
    torch: str = torch.__version__

    @property
    def files(self) -> list[str]:
        """Names of the files that a checkpoint with this manifest must have."""
        n_ranks = min(self.world_size, len(self.sha256))  # a damaged size costs no memory
        return [MODEL, OPTIMIZER, *(f"rank-{rank}.pt" for rank in range(n_ranks))]


_MANIFEST = TypeAdapter(Manifest)


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


@dataclass(frozen=True)
class RunState:
    """The contents of a checkpoint; `ranks` contains the state of each rank, in rank order."""

    manifest: Manifest
    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    ranks: list[dict[str, Any]]

    @property
    def step(self) -> int:
        """Number of optimizer steps taken."""
        return self.manifest.step


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


def folder_name(step: int) -> str:
    """Returns the name of the checkpoint folder of a step."""
    return f"step-{step:08d}"


def step_of(path: Path) -> int:
    """Returns the step in the name of a checkpoint folder."""
    return int(path.name.removeprefix("step-"))


def found(folder: Path) -> list[Path]:
    """Returns the checkpoints in a folder, newest first."""
    names = [path for path in folder.glob("step-*") if re.fullmatch(r"step-[0-9]{8,}", path.name)]
    return sorted(names, key=step_of, reverse=True)


def newest(folder: Path) -> Path | None:
    """Returns the newest intact checkpoint, or None if there are no checkpoints.

    Raises:
        UserError: there are checkpoints, but all of them are damaged.
    """
    return newest_and_damaged(folder)[0]


def newest_and_damaged(folder: Path) -> tuple[Path | None, list[Path]]:
    """Returns the newest intact checkpoint, and the damaged ones that are newer.

    Raises:
        UserError: there are checkpoints, but all of them are damaged.
    """
    candidates = found(folder)
    for position, path in enumerate(candidates):
        try:
            verify(path, read_manifest(path))
            return path, candidates[:position]
        except DamagedCheckpoint as error:
            logger.warning("%s; trying the one before it", error)
    if candidates:
        raise UserError(
            f"all {len(candidates)} checkpoints in '{folder}' are damaged; "
            "restore one, or remove the folder to start from the beginning"
        )
    return None, []


def load_state(path: Path) -> RunState:
    """Verifies and reads a whole checkpoint.

    Raises:
        DamagedCheckpoint: a file is missing, truncated or modified, or contains more than tensors.
    """
    manifest = read_manifest(path)
    verify(path, manifest)
    ranks = [_read_torch(path / f"rank-{rank}.pt") for rank in range(manifest.world_size)]
    return RunState(
        manifest,
        load_tensors(path / MODEL),
        _read_torch(path / OPTIMIZER),
        ranks,
    )


def read_manifest(path: Path) -> Manifest:
    """Reads the manifest of a checkpoint folder.

    Raises:
        DamagedCheckpoint: the manifest is missing or unreadable.
        UserError: this version cannot read the format of the checkpoint.
    """
    try:
        record = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        version = record["format"]
        if version == FORMAT:
            return _MANIFEST.validate_python(record)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedCheckpoint(
            f"checkpoint '{path}' is damaged: {MANIFEST} cannot be read ({type(error).__name__})"
        ) from None
    raise UserError(
        f"checkpoint '{path}' has format {version}, this ssl-zoo {__version__} reads {FORMAT}"
    )


def verify(path: Path, manifest: Manifest, names: list[str] | None = None) -> None:
    """Compares files with the manifest's checksums.

    Raises:
        DamagedCheckpoint: one differs.
    """
    for name in manifest.files if names is None else names:
        expected = manifest.sha256.get(name)
        if expected is None:
            raise DamagedCheckpoint(
                f"checkpoint '{path}' is damaged: {MANIFEST} has no checksum of {name}"
            )
        try:
            actual = sha256(path / name)
        except OSError:
            raise DamagedCheckpoint(f"checkpoint '{path}' is damaged: {name} is missing") from None
        if actual != expected:
            raise DamagedCheckpoint(
                f"checkpoint '{path}' is damaged: {name} is cut off or changed (checksum differs)"
            )


def selection_of(path: Path) -> dict[str, Any]:
    """Returns what a checkpoint remembers of the scores of its run; tensors are not read.

    Raises:
        DamagedCheckpoint: the file cannot be read.
    """
    try:
        found = _read_torch(path / OPTIMIZER, mmap=True).get("selection")
    except OSError:
        raise DamagedCheckpoint(
            f"checkpoint '{path}' is damaged: {OPTIMIZER} is missing"
        ) from None
    return found if isinstance(found, dict) else {}


def load_exported(path: Path) -> tuple[Manifest, dict[str, Tensor], list[str]]:
    """Returns the manifest, the weights of the network to evaluate, and the names of all others.

    Raises:
        DamagedCheckpoint: the files are damaged.
    """
    manifest = read_manifest(path)
    verify(path, manifest, [MODEL])
    prefix = manifest.exported + "."
    weights = load_tensors(path / MODEL)
    own = {key.removeprefix(prefix): w for key, w in weights.items() if key.startswith(prefix)}
    return manifest, own, [key for key in weights if not key.startswith(prefix)]


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


def _read_torch(path: Path, *, mmap: bool = False) -> dict[str, Any]:
    try:
        value: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # torch's readers raise a dozen types on damaged files
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # not a seek to nowhere
            raise
        is_code = isinstance(error, pickle.UnpicklingError)
        what = "holds more than tensors and numbers" if is_code else "cannot be read"
        raise DamagedCheckpoint(
            f"checkpoint '{path.parent}' is damaged: {path.name} {what}"
        ) from None
    return value


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
