"""Checkpoints: whole or absent, verified, pruned; nothing in them runs."""

import json
import os
import pickle
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ssl_zoo.errors import UserError
from ssl_zoo.files import sha256, write_text
from ssl_zoo.runs import checkpoint
from ssl_zoo.runs.rng import rng_state, set_rng_state


def load_newest(folder: Path) -> checkpoint.RunState | None:
    path = checkpoint.newest(folder)
    return checkpoint.load_state(path) if path is not None else None


def save(
    folder: Path, step: int, *, value: float = 0.0, keep: int = 2, damaged: Sequence[Path] = ()
) -> Path:
    model = nn.Linear(2, 1)
    nn.init.constant_(model.weight, value)
    facts = checkpoint.Facts(step, config={"seed": 3})
    content = checkpoint.Content(facts, model, optimizer={"lr": 0.1}, rank={"rng": rng_state()})
    return checkpoint.save(folder, content, keep=keep, damaged=damaged)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def edit_manifest(path: Path, **changes: Any) -> None:
    file = path / checkpoint.MANIFEST
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


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

    monkeypatch.setattr(checkpoint, moment, crash)
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


@pytest.mark.parametrize("name", [checkpoint.MODEL, checkpoint.OPTIMIZER, "rank-0.pt"])
@pytest.mark.parametrize("damage", ["missing", "cut off", "changed"])
def test_a_damaged_file_is_named(name: str, damage: str, tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    content = bytearray((path / name).read_bytes())
    (path / name).unlink()
    if damage == "cut off":
        (path / name).write_bytes(content[:-1])
    if damage == "changed":
        content[-1] ^= 1
        (path / name).write_bytes(content)
    with pytest.raises(checkpoint.DamagedCheckpoint, match=f"is damaged: {name} is "):
        checkpoint.load_state(path)


def test_a_manifest_that_cannot_be_read_is_damage(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    (path / checkpoint.MANIFEST).write_text("{")
    with pytest.raises(checkpoint.DamagedCheckpoint, match="manifest.json cannot be read"):
        checkpoint.load_state(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "cannot be read"),
        ("3", "cannot be read"),
        ('{"format": 1}', "cannot be read"),
        ('{"format": 1, "step": -1, "config": {}}', "cannot be read"),
        ('{"format": 1, "step": 1, "config": []}', "cannot be read"),
        ('{"format": 1, "step": 1, "config": {}, "sha256": {"a": 3}}', "cannot be read"),
        ('{"format": 1, "step": 1, "config": {}}', "has no checksum of model.safetensors"),
        ('{"format": ' + "9" * 5000 + "}", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
    ],
)
def test_a_manifest_of_something_else_is_damage(text: str, words: str, tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    (path / checkpoint.MANIFEST).write_text(text)
    with pytest.raises(checkpoint.DamagedCheckpoint, match=words):
        checkpoint.load_state(path)
    with pytest.raises(UserError, match="all 1 checkpoints .* are damaged"):
        checkpoint.newest(tmp_path)


@pytest.mark.parametrize("name", [checkpoint.MODEL, checkpoint.OPTIMIZER, "rank-0.pt"])
def test_a_file_without_a_checksum_is_damage(name: str, tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    digests = json.loads((path / checkpoint.MANIFEST).read_text())["sha256"]
    edit_manifest(path, sha256={key: value for key, value in digests.items() if key != name})
    with pytest.raises(checkpoint.DamagedCheckpoint, match=f"no checksum of {name}"):
        checkpoint.load_state(path)


def test_a_count_of_processes_that_was_changed_is_damage(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    edit_manifest(path, world_size=10**12)
    with pytest.raises(checkpoint.DamagedCheckpoint, match=r"no checksum of rank-1\.pt"):
        checkpoint.load_state(path)


def test_another_format_is_refused_and_not_taken_for_damage(tmp_path: Path) -> None:
    save(tmp_path, 1)
    edit_manifest(save(tmp_path, 2), format=99)
    with pytest.raises(UserError, match="has format 99, this ssl-zoo .* reads 1"):
        load_newest(tmp_path)


def test_the_one_before_a_damaged_checkpoint_is_used_aloud(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, 1)
    (save(tmp_path, 2) / checkpoint.OPTIMIZER).unlink()
    newest = load_newest(tmp_path)
    assert newest is not None
    assert newest.step == 1
    assert "optimizer.pt is missing; trying the one before it" in caplog.text


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert load_newest(tmp_path / "nowhere") is None


def test_only_the_exported_network_is_loaded_for_use(tmp_path: Path) -> None:
    model = nn.ModuleDict({"backbone": nn.Linear(2, 1), "head": nn.Linear(1, 1)})
    facts = checkpoint.Facts(1, config={}, exported="backbone")
    path = checkpoint.save(tmp_path, checkpoint.Content(facts, model, optimizer={}, rank={}))
    (path / checkpoint.OPTIMIZER).unlink()  # what is released need not come with the optimizer
    _, weights, _ = checkpoint.load_exported(path)
    assert sorted(weights) == ["bias", "weight"]


def test_pickled_code_in_a_checkpoint_never_runs(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    torch.save({"optimizer": Bomb(tmp_path / "exploded")}, path / checkpoint.OPTIMIZER)
    digests = json.loads((path / checkpoint.MANIFEST).read_text())["sha256"]
    digests[checkpoint.OPTIMIZER] = sha256(path / checkpoint.OPTIMIZER)
    edit_manifest(path, sha256=digests)
    with pytest.raises(checkpoint.DamagedCheckpoint, match="more than tensors and numbers"):
        checkpoint.load_state(path)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("content", [b"", b"\x80\x02.", b"\x80\x02I'^\n.", b"X", b"PK\x03\x04"])
def test_a_file_that_torch_cannot_read_is_damage(content: bytes, tmp_path: Path) -> None:
    """Even where its checksum is right; torch raises a type of its own for each of these."""
    path = save(tmp_path, 1)
    (path / checkpoint.OPTIMIZER).write_bytes(content)
    digests = json.loads((path / checkpoint.MANIFEST).read_text())["sha256"]
    digests[checkpoint.OPTIMIZER] = sha256(path / checkpoint.OPTIMIZER)
    edit_manifest(path, sha256=digests)
    with pytest.raises(checkpoint.DamagedCheckpoint, match=r"optimizer\.pt (cannot be|holds)"):
        checkpoint.load_state(path)


def test_the_bomb_of_these_tests_is_live(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Bomb(tmp_path / "exploded")))
    assert (tmp_path / "exploded").exists()


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def draw() -> list[float]:
    """Draws a number from each generator; normal numbers come in pairs, of which one is kept."""
    return [
        random.random(),
        random.gauss(0, 1),
        float(np.random.rand()),  # noqa: NPY002
        float(np.random.randn()),  # noqa: NPY002
        float(torch.rand(())),
    ]


def test_random_numbers_continue_where_they_were(tmp_path: Path) -> None:
    draw()
    path = tmp_path / "rng.pt"
    torch.save(rng_state(), path)
    expected = [draw() for _ in range(3)]
    draw()
    set_rng_state(torch.load(path, weights_only=True))
    assert [draw() for _ in range(3)] == expected


def test_a_text_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "notes.txt"
    write_text(file, "old")

    def crash(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        write_text(file, "new")
    assert file.read_text() == "old"


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


def test_checkpoints_are_in_order_of_their_steps(tmp_path: Path) -> None:
    for step in (99_999_999, 100_000_000):
        save(tmp_path, step)
    assert [checkpoint.step_of(path) for path in checkpoint.found(tmp_path)] == [10**8, 10**8 - 1]


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
