"""Runs commands as a person does."""

import sys
from pathlib import Path
from typing import Any

import pytest

from ssl_zoo.cli.main import main
from tests.cli.commands import Outcome, Run


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Run:
    """Runs the command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def call(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["ssl-zoo", *map(str, arguments)])
        capsys.readouterr()
        status: Any = 0
        try:
            main()
        except SystemExit as stop:
            status = stop.code
        return Outcome(int(status or 0), *capsys.readouterr())

    return call
