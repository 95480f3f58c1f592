"""Names that a terminal or a spreadsheet would act on."""

import csv
import logging
from io import StringIO
from pathlib import Path

import pytest
from click.testing import CliRunner

from ssl_zoo.cli.exits import run
from ssl_zoo.cli.main import _Formatter, cli
from ssl_zoo.errors import UserError
from ssl_zoo.explore import assignment_table
from ssl_zoo.plain_text import csv_cell, printable
from ssl_zoo.report.score_table import Cell, ScoreTable, table

RED = "\x1b[31mred\x1b[2J"


def cell(name: str) -> Cell:
    """Returns a score of a checkpoint of this name."""
    return Cell(name, "knn/top1", 50.0, None, None, None, "0", "digits")


def test_escape_codes_in_the_name_of_a_file_that_is_missing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The name of a file contains codes that clear or colour a terminal, and an error names it.

    Then: the codes are written out, as `\\\\x1b[2J`.
    Do: nothing.
    """

    def command(**_: object) -> None:
        raise UserError(f"there is no checkpoint '{RED}'")

    with pytest.raises(SystemExit):
        run(command)
    shown = capsys.readouterr().err
    assert "\x1b" not in shown
    assert r"\x1b[31mred\x1b[2J" in shown


def test_escape_codes_in_a_warning() -> None:
    """The name of an image that cannot be decoded contains codes for a terminal.

    Then: the warning about it has them written out.
    Do: nothing.
    """
    record = logging.LogRecord("x", logging.WARNING, "", 0, "'%s' is damaged", (RED,), None)
    assert "\x1b" not in _Formatter("%(message)s").format(record)


def test_escape_codes_in_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    """A result names a checkpoint with codes for a terminal, and tables show it.

    Then: they are written out.
    Do: nothing.
    """
    from ssl_zoo.cli.console import show
    from ssl_zoo.report.tables import results_table

    show(results_table(ScoreTable(RED, (RED,), (cell(RED),)), width=100))
    assert "\x1b" not in capsys.readouterr().out


def test_names_whose_order_a_terminal_would_turn_round() -> None:
    """A name contains marks that turn its order round, so that `exe.gpj` looks like `jpg.exe`.

    Then: the marks are written out.
    Do: nothing.
    """
    assert printable("a\u202egpj.exe") == "a\\u202egpj.exe"
    assert printable("größer\tthan\n日本") == "größer\tthan\n日本"


@pytest.mark.parametrize("name", ["=1+1", "+A1", "-A1", "@SUM(A1)"])
def test_a_name_that_a_spreadsheet_takes_for_a_formula(name: str, tmp_path: Path) -> None:
    """The name of a checkpoint or image begins with `=`, and a table is written as CSV.

    Then: the cell begins with an apostrophe, so a spreadsheet shows it and computes nothing.
    Do: nothing; remove the apostrophe where a script reads the table.
    """
    text = ScoreTable("x", (name,), (cell(name),)).to_csv(tmp_path / "x.csv")
    (row,) = csv.DictReader(StringIO(text))
    assert row["name"] == f"'{name}"
    assert csv_cell(-1.5) == -1.5
    assignment_table._write_csv(tmp_path / "y.csv", {"image": [name], "similarity": [-0.5]})
    assert (tmp_path / "y.csv").read_text().splitlines()[1] == f"'{name},-0.500000"


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        "9" * 5000,
        "[]",
        "null",
        '{"rows": 3}',
        '{"results": [3]}',
        '{"schema_version": "x", "rows": []}',
        "\x00",
    ],
)
def test_a_file_that_is_no_result(text: str, tmp_path: Path) -> None:
    """A file given to `ssl-zoo table` is JSON of something else, or of no use at all.

    Then: it is refused in one line that names the command that writes results.
    Do: pass a file written by that command.
    """
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match="is not a result of ssl-zoo"):
        table(tmp_path / "x.json")


@pytest.mark.parametrize("content", [b"\xff\xfe", b"\x80\x04K\x01."])
def test_a_file_that_is_no_text(content: bytes, tmp_path: Path) -> None:
    """A file given to `ssl-zoo table` is a checkpoint or an image.

    Then: it is refused in one line.
    Do: pass a result.
    """
    (tmp_path / "x.json").write_bytes(content)
    done = CliRunner().invoke(cli, ["table", str(tmp_path / "x.json")])
    assert isinstance(done.exception, UserError)
