"""The check of the experiments covers them all, and finds the scores of today."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "experiments"
CHECK = FOLDER / "check.py"


@pytest.fixture(scope="module")
def check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_of_experiments", CHECK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


def test_every_experiment_has_a_row_or_a_reason(check: ModuleType) -> None:
    folders = {path.name for path in FOLDER.iterdir() if (path / "README.md").is_file()}
    covered = {row.file.partition("/")[0] for row in check.ROWS}
    assert folders <= covered | check.WITHOUT.keys()
    assert not covered & check.WITHOUT.keys()


def test_every_row_names_a_score_in_percent(check: ModuleType) -> None:
    assert all(30 < row.written() < 70 for row in check.ROWS)


def test_a_row_that_moved_fails(
    check: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["check.py"])
    digits = next(row for row in check.ROWS if row.data == "digits_affine")
    for moved, status in ((0.2, 0), (0.5, 1)):
        monkeypatch.setattr(
            check.Row, "recomputed", lambda row, root, by=moved: row.written() + by
        )
        assert check.main() == status
        told = capsys.readouterr().out
        assert f"{digits.file}: " in told
        assert ("moved by more than 0.3" in told) == bool(status)
        assert "without images" in told


@pytest.mark.slow
def test_the_scores_of_today_are_those_that_were_written() -> None:
    found = subprocess.run(
        [sys.executable, str(CHECK)], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert "as written" in found.stdout
