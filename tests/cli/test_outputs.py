"""Which outputs a command may write."""

from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from ssl_zoo.cli.main import cli
from ssl_zoo.cli.outputs import read_hub, read_table, read_weights
from ssl_zoo.errors import UserError
from ssl_zoo.runs.places import output_file, output_folder
from ssl_zoo.weights.export import write
from ssl_zoo.weights.open import open_checkpoint
from tests.faults.outputs import FILES, FOLDERS


def with_output(group: click.Group, prefix: str = "") -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from with_output(command, f"{prefix}{name} ")
        if any("--output" in parameter.opts for parameter in command.params):
            yield prefix + name


def test_faults_try_every_command_that_has_an_output() -> None:
    tried = {*FILES, *FOLDERS} - {"export --as hub"} | {"card"}
    assert {*with_output(cli)} == tried


def test_exports_of_the_same_kind_are_replaced(tmp_path: Path) -> None:
    opened = open_checkpoint("untrained:pixels")
    write(opened, tmp_path / "a.safetensors", "safetensors")
    write(opened, tmp_path / "hub", "hub")
    file = str(tmp_path / "a.safetensors")
    assert output_file(file, replaces=read_weights) == Path(file)
    assert output_folder(str(tmp_path / "hub"), replaces=read_hub) == tmp_path / "hub"
    with pytest.raises(UserError, match="exists and is not known to be a result"):
        output_file(file)


def test_tables_of_scores_are_replaced(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("name,score,value,low,high,spread,protocol,data\nx,y,1,,,,p,d\n")
    assert output_file(str(file), replaces=read_table) == file
    file.write_text("name,score\nx,y\n")
    with pytest.raises(UserError, match="exists and is not known to be a result"):
        output_file(str(file), replaces=read_table)


def test_an_empty_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "new").touch()
    assert output_file(str(tmp_path / "new")) == tmp_path / "new"
