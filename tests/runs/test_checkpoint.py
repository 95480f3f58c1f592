"""Checkpoints: found, verified and read; nothing in them runs."""

import json
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ssl_zoo.errors import UserError
from ssl_zoo.files import sha256
from ssl_zoo.runs import checkpoint, checkpoint_writing
from ssl_zoo.runs.rng import rng_state, set_rng_state
from tests.runs.checkpoints import load_newest, save


def edit_manifest(path: Path, **changes: Any) -> None:
    file = path / checkpoint.MANIFEST
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


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
    path = checkpoint_writing.save(
        tmp_path, checkpoint_writing.Content(facts, model, optimizer={}, rank={})
    )
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


def test_checkpoints_are_in_order_of_their_steps(tmp_path: Path) -> None:
    for step in (99_999_999, 100_000_000):
        save(tmp_path, step)
    assert [checkpoint.step_of(path) for path in checkpoint.found(tmp_path)] == [10**8, 10**8 - 1]
