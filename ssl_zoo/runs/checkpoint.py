"""Checkpoints that survive any kill: written aside, checksummed, renamed into place, verified on load.

A checkpoint is a folder `step-00001234`: `model.safetensors` (the whole method), `optimizer.pt`,
`rank-K.pt` (what differs between ranks) and `manifest.json` (config, sizes, SHA-256 of each file).
Nothing is loaded that could run code: safetensors, and `torch.load(weights_only=True)`.
"""

import json
import logging
import os
import pickle
import re
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ssl_zoo import distributed
from ssl_zoo._version import __version__
from ssl_zoo.errors import Superseded, UserError
from ssl_zoo.files import sha256, write_text

logger = logging.getLogger(__name__)

FORMAT = 1
MANIFEST = "manifest.json"
SUPERSEDED = "another start has taken over"
MODEL = "model.safetensors"
OPTIMIZER = "optimizer.pt"


class DamagedCheckpoint(UserError):
    """A checkpoint whose files are missing, cut off or changed."""


@dataclass(frozen=True)
class TrainingState:
    """What one rank needs to go on, and the manifest that belongs to it."""

    manifest: dict[str, Any]
    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    ranks: list[dict[str, Any]]

    @property
    def step(self) -> int:
        """Number of optimizer steps that were taken."""
        return int(self.manifest["step"])


def save(
    folder: Path,
    *,
    step: int,
    config: dict[str, Any],
    model: nn.Module,
    optimizer: dict[str, Any],
    rank_state: dict[str, Any],
    facts: dict[str, Any],
    keep: int = 2,
    may_write: Callable[[], bool] = lambda: True,
) -> Path:
    """Writes a checkpoint; all ranks call it together.

    Args:
        folder: where checkpoints live.
        config: resolved settings of the run.
        rank_state: what this rank alone knows.
        facts: further entries of the manifest, such as where the exported network lies.
        keep: newest checkpoints that stay.
        may_write: asked on rank 0 before the checkpoint becomes visible; nothing does if not.

    Raises:
        Superseded: this process must not write.
        UserError: the files cannot be written; earlier checkpoints are untouched.
    """
    final = folder / f"step-{step:08d}"
    # The name is this process's own: a left-over of an earlier start may be at the same step.
    nonce = distributed.broadcast_object(uuid.uuid4().hex[:8])
    aside = folder / f".writing-step-{step:08d}-{nonce}"
    problem = _attempt(lambda: aside.mkdir(parents=True)) if distributed.is_main() else ""
    problem = distributed.broadcast_object(problem)
    digests: dict[str, str] = {}

    def write() -> None:
        name = f"rank-{distributed.rank()}.pt"
        digests[name] = _write_torch(aside / name, rank_state)
        if distributed.is_main():
            digests[MODEL] = _write_model(aside / MODEL, model)
            digests[OPTIMIZER] = _write_torch(aside / OPTIMIZER, optimizer)

    problem = problem or _attempt(write)
    outcomes = distributed.all_gather_object((problem, digests))
    problem = next((found for found, _ in outcomes if found), "")
    if not problem and distributed.is_main():
        checksums = {name: digest for _, part in outcomes for name, digest in part.items()}
        manifest = {"step": step, **facts, "config": config, "sha256": checksums}
        if may_write():
            problem = _attempt(lambda: _publish(aside, final, manifest))
        else:
            problem = SUPERSEDED
    problem = distributed.broadcast_object(problem)
    if problem:
        if distributed.is_main():
            shutil.rmtree(aside, ignore_errors=True)
        if problem == SUPERSEDED:
            raise Superseded.everywhere(f"{SUPERSEDED} '{folder}'; this process stops here")
        raise UserError.everywhere(
            f"checkpoint of step {step} cannot be written to '{folder}': {problem}; "
            f"{_last_good(folder)}. Make room or mend the folder and start the same command again"
        )
    if distributed.is_main():
        _prune(folder, keep, final)
    return final


def _attempt(action: Callable[[], None]) -> str:
    """Runs something that writes files; returns what the disk said against it, if anything."""
    try:
        action()
    except (
        OSError,
        RuntimeError,
        SafetensorError,
    ) as error:  # each library has its own for a full disk
        return _describe(error)
    return ""


def _publish(aside: Path, final: Path, manifest: dict[str, Any]) -> None:
    """Makes a whole checkpoint visible under its name in one step."""
    origin = {
        "format": FORMAT,
        "ssl_zoo": __version__,
        "torch": torch.__version__,
        "world_size": distributed.world_size(),
    }
    write_text(aside / MANIFEST, json.dumps({**origin, **manifest}, indent=1))
    if final.exists():
        shutil.rmtree(final)
    aside.rename(final)
    _sync_folder(final.parent)


def found(folder: Path) -> list[Path]:
    """Returns the checkpoints in a folder, newest first."""
    names = [path for path in folder.glob("step-*") if re.fullmatch(r"step-\d{8,}", path.name)]
    return sorted(names, reverse=True)


def newest(folder: Path) -> Path | None:
    """Returns the newest checkpoint that verifies, or None where there is none at all.

    Raises:
        UserError: there are checkpoints, and all of them are damaged.
    """
    candidates = found(folder)
    for path in candidates:
        try:
            verify(path, read_manifest(path))
            return path
        except DamagedCheckpoint as error:
            logger.warning("%s; trying the one before it", error)
    if candidates:
        raise UserError(
            f"all {len(candidates)} checkpoints in '{folder}' are damaged; "
            "restore one, or remove the folder to start from the beginning"
        )
    return None


def load_state(path: Path) -> TrainingState:
    """Verifies and reads a whole checkpoint.

    Raises:
        DamagedCheckpoint: a file is missing, cut off or changed, or holds more than tensors.
    """
    manifest = read_manifest(path)
    verify(path, manifest)
    ranks = [_read_torch(path / f"rank-{rank}.pt") for rank in range(manifest["world_size"])]
    return TrainingState(
        manifest,
        safetensors.torch.load_file(path / MODEL),
        _read_torch(path / OPTIMIZER),
        ranks,
    )


def read_manifest(path: Path) -> dict[str, Any]:
    """Reads the manifest of a checkpoint folder.

    Raises:
        DamagedCheckpoint: it is missing or unreadable.
        UserError: it was written in a format that this version does not know.
    """
    try:
        manifest: dict[str, Any] = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        version = manifest["format"]
    except (OSError, ValueError, KeyError) as error:
        raise DamagedCheckpoint(
            f"checkpoint '{path}' is damaged: {MANIFEST} cannot be read ({type(error).__name__})"
        ) from None
    if version != FORMAT:
        raise UserError(
            f"checkpoint '{path}' has format {version}, this ssl-zoo {__version__} reads {FORMAT}"
        )
    return manifest


def verify(path: Path, manifest: dict[str, Any], names: list[str] | None = None) -> None:
    """Compares files with the manifest's checksums.

    Raises:
        DamagedCheckpoint: one differs.
    """
    for name, expected in manifest["sha256"].items():
        if names is not None and name not in names:
            continue
        try:
            actual = sha256(path / name)
        except OSError:
            raise DamagedCheckpoint(f"checkpoint '{path}' is damaged: {name} is missing") from None
        if actual != expected:
            raise DamagedCheckpoint(
                f"checkpoint '{path}' is damaged: {name} is cut off or changed (checksum differs)"
            )


def load_exported(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Returns the manifest and the weights of the network that is evaluated and released.

    Raises:
        DamagedCheckpoint: the files are not whole.
    """
    manifest = read_manifest(path)
    verify(path, manifest, [MODEL])
    prefix = manifest["exported"] + "."
    weights = safetensors.torch.load_file(path / MODEL)
    return manifest, {
        key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)
    }


def save_tensors(path: Path, module: nn.Module, metadata: dict[str, str] | None = None) -> None:
    """Writes the state of a module as `save_state` does."""
    save_state(path, module.state_dict(), metadata)


def save_state(
    path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Writes tensors as safetensors, readable by whom other new files are."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    path.touch()
    mode = path.stat().st_mode
    safetensors.torch.save_file(plain, path, metadata=metadata)
    path.chmod(mode)  # safetensors leaves files that only their owner can read


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


def _read_torch(path: Path) -> dict[str, Any]:
    try:
        value: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise DamagedCheckpoint(
            f"checkpoint '{path.parent}' is damaged: {path.name} holds more than tensors and numbers"
        ) from None
    return value


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _prune(folder: Path, keep: int, newest: Path) -> None:
    for path in found(folder):
        if path.name > newest.name:  # the run went on from before it, so it must be damaged
            shutil.rmtree(path, ignore_errors=True)
    for path in found(folder)[keep:]:
        shutil.rmtree(path, ignore_errors=True)
    for path in folder.glob(".writing-*"):
        shutil.rmtree(path, ignore_errors=True)


def _last_good(folder: Path) -> str:
    good = found(folder)
    return f"the last good one is '{good[0].name}'" if good else "there is no earlier one"


def _describe(error: Exception) -> str:
    text = getattr(error, "strerror", None) or (str(error) or type(error).__name__).splitlines()[0]
    return "no space left on device" if "No space left" in str(error) else text
