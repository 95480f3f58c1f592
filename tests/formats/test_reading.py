"""Files are read without running code, or refused in one line that says why."""

import argparse
import collections
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from ssl_zoo.errors import UserError
from ssl_zoo.formats.reading import read
from tests.formats.files import TEACHER, parallel, trunk, write


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


class Options:
    """A class of the project that wrote the file."""


def refused(path: Path) -> str:
    with pytest.raises(UserError) as raised:
        read("x.pth", path)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("new_format", [True, False])
def test_a_bomb_beside_good_weights_is_named_and_never_goes_off(
    new_format: bool, tmp_path: Path
) -> None:
    path, crater = tmp_path / "bomb.pth", tmp_path / "crater"
    content = {"state_dict": {"a": torch.zeros(1)}, "args": Bomb(crater)}
    torch.save(content, path, _use_new_zipfile_serialization=new_format)
    assert "asks for 'posix.mkdir' besides tensors" in refused(path)
    assert not crater.exists()


@pytest.mark.parametrize("protocol", range(2, 6))
def test_a_plain_pickle_is_refused_by_name(protocol: int, tmp_path: Path) -> None:
    path, crater = tmp_path / "bomb.pkl", tmp_path / "crater"
    path.write_bytes(pickle.dumps(Bomb(crater), protocol=protocol))
    assert "asks for 'posix.mkdir' besides tensors" in refused(path)
    assert not crater.exists()


def test_a_class_of_another_project_is_named_with_the_way_out(tmp_path: Path) -> None:
    torch.save(
        {"state_dict": {"a": torch.zeros(1)}, "hyper_parameters": Options()}, tmp_path / "x"
    )
    message = refused(tmp_path / "x")
    assert "asks for 'tests.formats.test_reading.Options' besides tensors" in message
    assert "load it with weights_only=False and torch.save only its state dict" in message


def test_options_of_argparse_are_let_through(tmp_path: Path) -> None:
    content = {"teacher": {"a": torch.ones(1)}, "args": argparse.Namespace(lr=0.1)}
    torch.save(content, tmp_path / "x.pth")
    assert torch.equal(read("x.pth", tmp_path / "x.pth").dicts["teacher"]["a"], torch.ones(1))


def test_options_that_hide_a_bomb_are_refused(tmp_path: Path) -> None:
    content = {"a": torch.ones(1), "args": argparse.Namespace(lr=Bomb(tmp_path / "crater"))}
    torch.save(content, tmp_path / "x.pth")
    assert "asks for 'posix.mkdir'" in refused(tmp_path / "x.pth")
    assert not (tmp_path / "crater").exists()


@pytest.mark.parametrize("new_format", [True, False])
def test_files_of_old_and_new_torch_are_read(new_format: bool, tmp_path: Path) -> None:
    content = {"state_dict": collections.OrderedDict(parallel({"a.b": torch.ones(2)}))}
    path = tmp_path / "x.pth.tar"
    torch.save(content, path, _use_new_zipfile_serialization=new_format)
    file = read("x", path)
    assert file.place() == "state_dict"
    assert torch.equal(file.main()["a.b"], torch.ones(2))


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
def test_the_ending_of_a_name_does_not_matter(name: str, tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / name)
    assert list(read("x", tmp_path / name).main()) == ["a"]
    safetensors.torch.save_file({"b": torch.ones(1)}, tmp_path / name)
    assert list(read("x", tmp_path / name).main()) == ["b"]


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_a_cut_off_file_is_refused(kept: float, new_format: bool, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"a": torch.ones(1000)}, path, _use_new_zipfile_serialization=new_format)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    assert "truncated" in refused(path) or "not a complete torch checkpoint" in refused(path)


def test_a_text_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_text("hello, this is not a checkpoint")
    message = "'x.pth' is neither a torch checkpoint nor a safetensors file"
    assert refused(tmp_path / "x.pth") == message


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"epoch": 3, "loss": 0.5}, "keys: epoch, loss"),
        ([torch.zeros(1)], "a list"),
        ({}, "a dict"),
    ],
)
def test_a_file_without_weights_is_refused_with_its_content(
    content: Any, told: str, tmp_path: Path
) -> None:
    torch.save(content, tmp_path / "x.pth")
    assert f"'x.pth' contains no named weights ({told})" in refused(tmp_path / "x.pth")


def test_the_prefix_of_parallel_training_goes_where_all_names_have_it(tmp_path: Path) -> None:
    content = {
        "student": parallel(TEACHER),
        "teacher": {"module.a": torch.zeros(1), "b": torch.zeros(1)},
    }
    file = read("x", write(tmp_path, "x.pth", content))
    assert file.dicts["student"].keys() == TEACHER.keys()
    assert list(file.dicts["teacher"]) == ["module.a", "b"]


def test_a_state_within_an_optimizer_is_none_of_the_weights(tmp_path: Path) -> None:
    optimizer = {"state": {0: {"momentum_buffer": torch.zeros(2)}}}
    content = {"model": trunk(), "optimizer": optimizer}
    assert list(read("x", write(tmp_path, "x.pth", content)).dicts) == ["model"]
