"""Runs that are stopped, moved or resumed."""

import os
from pathlib import Path

import pytest
from torch import nn

from ssl_zoo.errors import Superseded
from ssl_zoo.runs import checkpoint
from ssl_zoo.runs.ownership import Ownership

FSYNCS = ("rank", "model", "optimizer", "manifest", "its folder", "folder of checkpoints")
"""What a process makes durable, in this order, when it saves."""


def save(run: Path, owner: Ownership, step: int) -> None:
    content = checkpoint.Content(checkpoint.Facts(step, {}), nn.Linear(2, 1), {}, {})
    checkpoint.save(run / "checkpoints", content, may_write=lambda: not owner.is_lost())


@pytest.mark.parametrize("moment", range(len(FSYNCS)), ids=FSYNCS)
def test_a_process_on_a_lost_node_wakes_up(
    moment: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node is lost while it writes step 8, the job is restarted on another node, and the old
    process wakes up when the new one is at step 60.

    Then: the old process sees that the run has another owner and ends without renaming or
    removing anything; the checkpoints of the new one are kept.
    Do: nothing.
    """
    stale, successor = Ownership(tmp_path), Ownership(tmp_path)
    stale.take()
    save(tmp_path, stale, 4)
    fsync, calls = os.fsync, iter(range(len(FSYNCS)))

    def hang(descriptor: int) -> None:
        fsync(descriptor)
        if next(calls) == moment:
            monkeypatch.setattr(os, "fsync", fsync)
            successor.take()
            for step in (8, 50, 60):
                save(tmp_path, successor, step)

    monkeypatch.setattr(os, "fsync", hang)
    with pytest.raises(Superseded, match="this process stops here"):
        save(tmp_path, stale, 8)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-00000050", "step-00000060"]
    assert checkpoint.newest(tmp_path / "checkpoints") == tmp_path / "checkpoints/step-00000060"


def test_a_newer_checkpoint_that_is_not_damaged(tmp_path: Path) -> None:
    """A folder has a checkpoint that is newer than the one just written, such as one copied into it.

    Then: it is kept. Only newer checkpoints that were found damaged when the run resumed are
    removed, after the first intact one is written.
    Do: nothing.
    """
    owner = Ownership(tmp_path)
    for step in (60, 8, 12, 16):
        save(tmp_path, owner, step)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-00000012", "step-00000016", "step-00000060"]
