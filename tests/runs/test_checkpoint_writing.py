"""Writing checkpoints: crashes, leftovers, and which checkpoints are kept."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from ssl_zoo.errors import UserError
from ssl_zoo.runs import checkpoint, checkpoint_writing
from tests.runs.checkpoints import load_newest, names, save


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    state = checkpoint.load_state(save(tmp_path, 7, value=0.5))
    assert (state.step, state.manifest.config, state.optimizer) == (7, {"seed": 3}, {"lr": 0.1})
    assert state.model["weight"].tolist() == [[0.5, 0.5]]
    assert len(state.ranks) == 1


def test_the_newest_two_stay(tmp_path: Path) -> None:
    for step in (1, 2, 30):
        save(tmp_path, step)
    assert names(tmp_path) == ["step-00000002", "step-00000030"]
    assert [path.name for path in checkpoint.found(tmp_path)] == ["step-00000030", "step-00000002"]


@pytest.mark.parametrize("moment", ["_write_model", "_write_torch", "write_text", "_publish"])
def test_a_crash_while_writing_leaves_the_old_checkpoint(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 1, value=1.0)

    def crash(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint_writing, moment, crash)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 2)
    monkeypatch.undo()
    newest = load_newest(tmp_path)
    assert newest is not None
    assert newest.step == 1
    save(tmp_path, 2)
    assert names(tmp_path) == ["step-00000001", "step-00000002"]


def test_a_crash_between_write_and_rename_leaves_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 1)

    def crash(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", crash)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 2)
    aside, whole = names(tmp_path)
    assert (aside.startswith(".writing-step-00000002-"), whole) == (True, "step-00000001")
    assert checkpoint.load_state(checkpoint.found(tmp_path)[0]).step == 1


def test_the_same_step_is_written_again(tmp_path: Path) -> None:
    save(tmp_path, 1, value=1.0)
    save(tmp_path, 1, value=2.0)
    newest = load_newest(tmp_path)
    assert newest is not None
    assert newest.model["weight"][0, 0] == 2.0


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"step 3 cannot be written to .*there is no earlier one"):
        save(tmp_path / "file", 3)


def test_leftovers_of_a_crash_are_removed(tmp_path: Path) -> None:
    shutil.copytree(save(tmp_path, 1), tmp_path / ".writing-step-00000009")
    save(tmp_path, 2)
    assert names(tmp_path) == ["step-00000001", "step-00000002"]


def test_damaged_checkpoints_do_not_push_out_whole_ones(tmp_path: Path) -> None:
    for step in (10, 20, 30, 40):
        path = save(tmp_path, step, keep=4)
        if step > 20:
            (path / checkpoint.OPTIMIZER).unlink()
    whole, damaged = checkpoint.newest_and_damaged(tmp_path)
    assert (whole, damaged) == (tmp_path / "step-00000020", checkpoint.found(tmp_path)[:2])
    save(tmp_path, 25, keep=2, damaged=damaged)
    assert names(tmp_path) == ["step-00000020", "step-00000025"]


def test_files_are_durable_before_the_checkpoint_is_visible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a power cut could leave a visible checkpoint whose files have no names."""
    synced: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def note(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    def check(self: Path, target: Path) -> Path:
        assert str(self) == synced[-1]
        assert {str(self / name) for name in (checkpoint.MODEL, "rank-0.pt")} < {*synced}
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(Path, "rename", check)
    save(tmp_path, 1)
    assert synced[-1] == str(tmp_path)
