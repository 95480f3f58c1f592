"""`ssl-zoo doctor` as a person meets it."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from ssl_zoo.cli import doctor as command
from ssl_zoo.cli.main import cli
from ssl_zoo.doctor import examine as module
from ssl_zoo.doctor.diagnosis import Diagnosis
from ssl_zoo.errors import UserError
from ssl_zoo.training.train import train
from tests.small import fast_config

FINE = Diagnosis("machine", "disk", "40 GB free")
BAD = Diagnosis("run", "loss", "at chance", "lower optimizer.lr")


def planted(monkeypatch: pytest.MonkeyPatch, *found: Diagnosis) -> None:
    monkeypatch.setattr(module, "machine_findings", lambda _: [*found])


def test_without_a_fault_the_status_is_0(monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, FINE)
    result = CliRunner().invoke(cli, ["doctor"])
    assert (result.exit_code, result.stdout) == (0, "ok     machine: disk: 40 GB free\n")
    assert result.stderr == "0 faults in 1 checks\n"


def test_a_fault_and_its_remedy_are_one_line_and_the_status_is_1(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    planted(monkeypatch, BAD, FINE)
    result = CliRunner().invoke(cli, ["doctor"])
    assert result.exit_code == 1
    assert result.stdout.splitlines()[0] == "FAULT  run: loss: at chance; lower optimizer.lr"


def test_json_says_which_are_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, BAD, FINE)
    result = CliRunner().invoke(cli, ["doctor", "--json"])
    assert [one["is_fault"] for one in json.loads(result.stdout)] == [True, False]
    assert result.exit_code == 1


def test_a_run_is_examined_with_its_data(tmp_path: Path) -> None:
    run = train(fast_config("simclr", "epochs=1"), tmp_path / "run", bar=False)
    result = CliRunner().invoke(cli, ["doctor", str(run), "--json"])
    assert {one["part"] for one in json.loads(result.stdout)} == {"machine", "data", "run"}


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["doctor", str(tmp_path)])
    assert isinstance(result.exception, UserError)
    assert "is not a run folder" in str(result.exception)


def test_the_help_lists_what_is_looked_at() -> None:
    text = command.doctor_command.help or ""
    assert all(word in text for word in ("stale queue", "dead prototypes", "exit status"))
