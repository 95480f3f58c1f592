"""Writes checkpoints crash-safely: to a temporary folder, checksummed, then renamed.

A checkpoint may be written in the background: what it holds is copied in memory, and a thread writes the
copy while training goes on. It is renamed when the files of all ranks are whole, so until then the one
before is the newest.

What a checkpoint holds, and how it is found, verified and read, is in `ssl_zoo.runs.checkpoint`.
"""

import json
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

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
from ssl_zoo.runs.tensor_files import save_state

MayWrite = Callable[[], bool]
_EXPECTED = (OSError, RuntimeError, SafetensorError, Superseded)
"""What libraries raise for a full disk, and what this module raises."""


@dataclass(frozen=True)
class Content:
    """The contribution of one rank to a checkpoint.

    Attributes:
        model: the whole method, or its state; written by rank 0.
        optimizer: state of the optimizer; written by rank 0.
        rank: state of this rank.
    """

    facts: Facts
    model: nn.Module | Mapping[str, Tensor]
    optimizer: dict[str, Any]
    rank: dict[str, Any]


@dataclass(frozen=True)
class Rules:
    """How checkpoints are kept.

    Attributes:
        keep: number of newest checkpoints to keep.
        best: step of a checkpoint to keep whatever its age.
        may_write: called on rank 0 before every rename and every removal; if false, nothing more is
            changed.
        damaged: checkpoints that this run found damaged when it resumed; they are removed.
    """

    keep: int = 2
    best: int | None = None
    may_write: MayWrite = lambda: True
    damaged: Collection[Path] = ()


def save(folder: Path, content: Content, rules: Rules = Rules()) -> Path:
    """Writes a checkpoint and returns its path; all ranks must call it.

    Args:
        folder: folder of the checkpoints.
        content: contribution of this rank.
        rules: how checkpoints are kept.

    Raises:
        Superseded: this process is no longer allowed to write.
        UserError: the files cannot be written; earlier checkpoints are kept.
    """
    writing = Writing(folder, content, rules)
    writing.finish()
    return writing.final


class Writing:
    """A checkpoint that is being written; all ranks must create it and call its methods at the same step.

    First each rank writes its own files, then rank 0 publishes the checkpoint and removes old ones.

    Args:
        folder: folder of the checkpoints.
        content: contribution of this rank.
        rules: how checkpoints are kept.
        background: whether a copy of the content is written by a thread.

    Attributes:
        final: path of the checkpoint.
        is_done: whether it is published.
        seconds: time spent on copying, writing and publishing, by the slowest rank.
    """

    def __init__(
        self, folder: Path, content: Content, rules: Rules, *, background: bool = False
    ) -> None:
        self._folder, self._rules, self._background = folder, rules, background
        step = content.facts.step
        self._facts, self.final, self.is_done = content.facts, folder / folder_name(step), False
        self.seconds = 0.0
        self._thread: threading.Thread | None = None
        self._digests: dict[str, str] = {}
        self._error: BaseException | None = None
        self._publishes = False
        # The name is unique to this process: a stale process of an earlier start may be at the same step.
        nonce = distributed.broadcast_object(uuid.uuid4().hex[:8])
        self._aside = folder / f".writing-step-{step:08d}-{nonce}"
        error = (
            _attempt(lambda: self._aside.mkdir(parents=True)) if distributed.is_main() else None
        )
        self._error = distributed.broadcast_object(error)
        if self._error is None:
            self._begin(content)

    def _begin(self, content: Content) -> None:
        """Starts writing the files of this rank; the error of a copy that fails is raised by `advance`."""
        begin = time.monotonic()
        try:
            given = in_memory(content) if self._background else content
        except _EXPECTED as error:  # such as no memory
            self._error = error
            return
        self.seconds += time.monotonic() - begin
        self._start(lambda: self._digests.update(_write(self._aside, given)))

    @property
    def is_busy(self) -> bool:
        """Whether this rank is writing."""
        return self._thread is not None and self._thread.is_alive()

    def finish(self) -> None:
        """Waits until the checkpoint is published.

        Raises:
            Superseded: this process is no longer allowed to write.
            UserError: the files cannot be written; earlier checkpoints are kept.
        """
        while not self.is_done:
            self.advance()

    def advance(self) -> None:
        """Publishes a checkpoint whose files are written, or ends when it is published; waits for the
        thread of this rank.

        Raises:
            Superseded: this process is no longer allowed to write.
            UserError: the files cannot be written; earlier checkpoints are kept.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None and not isinstance(self._error, _EXPECTED):
            raise self._error
        if not self._publishes:
            self._publishes = True
            self._publish_all()
            return
        self.is_done = True
        error = distributed.broadcast_object(self._error)
        if isinstance(error, Superseded):
            raise error
        if error is not None:
            raise UserError.everywhere(
                f"checkpoint of step {self._facts.step} cannot be written to '{self._folder}': "
                f"{_describe(error)}; {_last_good(self._folder)}. Make room or repair the folder, then "
                "start the same command again"
            )

    def _publish_all(self) -> None:
        """Starts publishing on rank 0, if all ranks have written their files."""
        outcomes = distributed.all_gather_object((self._error, self._digests, self.seconds))
        self._error = next((found for found, _, _ in outcomes if found is not None), None)
        self.seconds = max(seconds for _, _, seconds in outcomes)
        if not distributed.is_main():
            return
        checksums = {name: digest for _, part, _ in outcomes for name, digest in part.items()}
        manifest = Manifest(
            **vars(self._facts), world_size=distributed.world_size(), sha256=checksums
        )
        self._start(lambda: self._to_end(manifest))

    def _to_end(self, manifest: Manifest) -> None:
        """Publishes the checkpoint, or removes what is left of it.

        Raises:
            Exception: why it cannot be published.
        """
        may_write, aside = self._rules.may_write, self._aside
        error = self._error
        if error is None:
            error = _attempt(lambda: _publish(aside, self.final, manifest, may_write))
            error = error or _attempt(lambda: _prune(self.final, self._rules))
        if error is not None:
            shutil.rmtree(aside, ignore_errors=True)
            _check_owner(self._folder, may_write)
            raise error

    def _start(self, action: Callable[[], None]) -> None:
        """Does something in a thread, or now; errors are raised by `advance`."""

        def work() -> None:
            begin = time.monotonic()
            try:
                action()
            except BaseException as error:
                if not self._background and not isinstance(error, _EXPECTED):
                    raise
                self._error = error
            self.seconds += time.monotonic() - begin

        if not self._background:
            work()
            return
        # A process that must end does not wait for a disk that hangs.
        self._thread = threading.Thread(target=work, name="checkpoint", daemon=True)
        self._thread.start()


def in_memory(content: Content) -> Content:
    """Returns a copy that later steps do not change; of tensors on a GPU, in pinned memory."""
    copied = replace(
        content,
        model=_copied(_state_of(content.model)),
        optimizer=_copied(content.optimizer),
        rank=_copied(content.rank),
    )
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return copied


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        if value.device.type != "cuda":
            return value.detach().clone()
        room = torch.empty_like(value, device="cpu", pin_memory=True)
        return room.copy_(value.detach(), non_blocking=True)
    if isinstance(value, Mapping):
        return {key: _copied(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copied(one) for one in value)
    return value


def _state_of(model: nn.Module | Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    return model.state_dict() if isinstance(model, nn.Module) else model


def _attempt(action: Callable[[], None]) -> Exception | None:
    """Runs a function that writes files; returns the error that prevented it, if any."""
    try:
        action()
    except _EXPECTED as error:
        return error
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


def _write_model(path: Path, model: nn.Module | Mapping[str, Tensor]) -> str:
    save_state(path, _state_of(model))
    return _finish(path)


def _write_torch(path: Path, value: dict[str, Any]) -> str:
    torch.save(value, path)
    return _finish(path)


def _finish(path: Path) -> str:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return sha256(path)


def _prune(newest: Path, rules: Rules) -> None:
    """Removes old checkpoints, damaged ones and leftovers of earlier starts.

    Others that are newer than this one are not known to be damaged: they are kept.
    """
    older = [path for path in found(newest.parent) if step_of(path) <= step_of(newest)]
    older = [path for path in older if path not in rules.damaged]
    old = [path for path in older[rules.keep :] if step_of(path) != rules.best]
    broken = [path for path in rules.damaged if path != newest and path.exists()]
    for path in [*broken, *old, *newest.parent.glob(".writing-*")]:
        _check_owner(newest.parent, rules.may_write)
        shutil.rmtree(path, ignore_errors=True)


def _last_good(folder: Path) -> str:
    good = found(folder)
    return f"the last good one is '{good[0].name}'" if good else "there is no earlier one"


def _describe(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or (str(error) or type(error).__name__).splitlines()[0]
    return "no space left on device" if "No space left" in str(error) else text
