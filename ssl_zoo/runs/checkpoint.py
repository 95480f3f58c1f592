"""Checkpoints: what they hold, and how they are found, verified and read.

A checkpoint is a folder `step-00001234`: `model.safetensors` (the whole method), `optimizer.pt`,
`rank-K.pt` (state that differs between ranks) and `manifest.json` (config, sizes, SHA-256 of each file).
Nothing that could run code is loaded: safetensors, and `torch.load(weights_only=True)`.
`ssl_zoo.runs.checkpoint_writing` writes them.
"""

import errno
import json
import logging
import pickle
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import NonNegativeInt, PositiveInt, TypeAdapter
from torch import Tensor

from ssl_zoo._version import __version__
from ssl_zoo.data.record import DataRecord
from ssl_zoo.errors import UserError
from ssl_zoo.files import sha256
from ssl_zoo.runs.tensor_files import load_tensors

logger = logging.getLogger(__name__)

FORMAT = 1
MANIFEST = "manifest.json"
MODEL = "model.safetensors"
OPTIMIZER = "optimizer.pt"


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


@dataclass(frozen=True)
class SharedState:
    """What rank 0 reads of a checkpoint for all ranks.

    Attributes:
        ranks: state of each rank's memories that other ranks need too, in rank order.
    """

    manifest: Manifest
    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    ranks: list[dict[str, Tensor]]


def load_shared(path: Path, is_needed: Callable[[str], bool]) -> SharedState:
    """Reads a verified checkpoint without the states that ranks read themselves.

    Args:
        path: the checkpoint.
        is_needed: whether ranks need other ranks' tensor of this name.

    Raises:
        DamagedCheckpoint: a file cannot be read.
    """
    manifest = read_manifest(path)
    ranks = []
    for rank in range(manifest.world_size):
        method = _read_torch(path / f"rank-{rank}.pt", mmap=True).get("method", {})
        ranks.append({key: value.clone() for key, value in method.items() if is_needed(key)})
    model, optimizer = load_tensors(path / MODEL), _read_torch(path / OPTIMIZER)
    return SharedState(manifest, model, optimizer, ranks)


def load_ranks(path: Path, manifest: Manifest, ranks: Sequence[int]) -> list[dict[str, Any]]:
    """Verifies and reads the states of some ranks.

    Raises:
        DamagedCheckpoint: a file is missing, truncated or modified, or contains more than tensors.
    """
    names = [f"rank-{rank}.pt" for rank in ranks]
    verify(path, manifest, names)
    return [_read_torch(path / name) for name in names]


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
