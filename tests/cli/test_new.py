"""`ssl-zoo new method`: what it writes installs, trains and passes its own test."""

import os
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from ssl_zoo.cli.new import new_command
from ssl_zoo.errors import UserError
from ssl_zoo.runs.folder import RunFolder
from tests.subprocesses import pip_install, run, ssl_zoo

ROOT = Path(__file__).resolve().parents[2]
FAST = (
    "epochs=1",
    "global_batch_size=128",
    "schedule.warmup=2 steps",
    "evaluation.every=0 epochs",
)


def new(*words: str) -> None:
    CliRunner().invoke(
        new_command, ["method", *words], catch_exceptions=False, standalone_mode=False
    )


@pytest.mark.packaging
def test_the_package_installs_trains_and_passes_its_test(tmp_path: Path) -> None:
    site, package = tmp_path / "site", tmp_path / "quick_look"
    path = Path(f"{site}{os.pathsep}{ROOT}")
    ssl_zoo("new", "method", "quick_look", cwd=tmp_path)
    test = package / "tests" / "test_quick_look.py"
    pip_install(package, target=site)
    ssl_zoo("train", "quick_look", *FAST, "-o", "run", cwd=tmp_path, path=path)
    folder = RunFolder(tmp_path / "run")
    assert folder.is_complete
    assert "plugins: []" in folder.config_file.read_text()  # it is a package
    done = run(sys.executable, "-m", "pytest", str(test), cwd=tmp_path, path=path)
    assert "2 passed" in done.stdout


def test_the_method_is_of_use_as_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ssl_zoo import plugins
    from ssl_zoo.method import METHODS
    from ssl_zoo.testing import check_method

    METHODS.names()
    monkeypatch.setattr(METHODS, "_classes", dict(METHODS._classes))
    monkeypatch.setattr(plugins, "FILES", {})
    new("one_file", "-o", str(tmp_path / "made"))
    plugins.load_file(tmp_path / "made" / "ssl_zoo_one_file" / "method.py")
    check_method("one_file")


def test_no_file_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    new("mine", "-o", str(tmp_path / "mine"))  # an empty folder will do
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(UserError, match="exists and is not an empty folder"):
        new("mine", "-o", str(tmp_path / "mine"))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("simclr", "method 'simclr' already exists, in ssl_zoo.methods.simclr"),
        ("Mine", "'Mine' cannot be the name of a method; use lower-case"),
        ("my-method", "'my-method' cannot be"),
        ("2d", "'2d' cannot be"),
        ("class", "'class' cannot be"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        new(name, "-o", str(tmp_path / "made"))
    assert not (tmp_path / "made").exists()
