"""Where results are written."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ssl_zoo.cli.main import cli
from ssl_zoo.errors import UserError
from ssl_zoo.explore import folder
from ssl_zoo.runs.history import Event, History
from tests.faults.outputs import FILES, FOLDERS


def refusal(*arguments: str | Path) -> str:
    """Runs a command and returns the one line that refuses it."""
    with pytest.raises(UserError) as error:
        cli([str(each) for each in arguments], standalone_mode=False)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def run(small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of a complete run, which must not change."""
    monkeypatch.chdir(tmp_path)
    copy = Path(shutil.copytree(small_run, tmp_path / "run"))
    before = contents(copy)
    yield copy
    assert contents(copy) == before


def contents(place: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(place)): path.read_bytes()
        for path in sorted(place.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


@pytest.mark.parametrize("command", FILES)
@pytest.mark.parametrize("name", ["complete.json", "new.json", "checkpoints/new.csv"])
def test_an_output_file_is_in_a_run_folder(command: str, name: str, run: Path) -> None:
    """`ssl-zoo evaluate RUN -o RUN/config.yaml`: an output is in a run folder.

    Then: it is refused before any work is done. Only training changes a run folder; scores may be
    written to RUN/evaluation.json.
    Do: choose another --output.
    """
    said = refusal(*FILES[command], "-o", run / name)
    assert f"is in the run folder '{run}', which only training changes" in said


@pytest.mark.parametrize(
    "command", sorted({*FOLDERS} - {"train", "submit train", "submit evaluate"})
)
@pytest.mark.parametrize("name", [".", "new", "checkpoints/new"])
def test_an_output_folder_is_in_a_run_folder(command: str, name: str, run: Path) -> None:
    """The folder that a command writes is a run folder, or in one.

    Then: it is refused before any work is done.
    Do: choose another --output.
    """
    said = refusal(*FOLDERS[command], "-o", run / name)
    assert "which only training changes" in said or "is not an empty folder" in said


@pytest.mark.parametrize("command", ["train", "submit train", "submit evaluate"])
def test_the_folder_of_a_job_is_another_run(command: str, run: Path) -> None:
    """The folder of a new run or job is that of another run.

    Then: it is refused.
    Do: choose another --output.
    """
    said = refusal(*FOLDERS[command], "-o", run)
    assert "was made by another config" in said or "not the folder of a scoring job" in said


@pytest.mark.parametrize("command", FILES)
@pytest.mark.parametrize("text", ['{"mine": 1}', "[]", "mine", "\x80\xff"])
def test_an_output_file_exists(command: str, text: str, tmp_path: Path) -> None:
    """An output file exists, and is not a result of the same command.

    Then: it is refused before any work is done, and the file is kept. Results of the same command
    are replaced, except exports that cannot be recognised.
    Do: choose another --output, or remove the file.
    """
    for suffix in (".json", ".csv", ".pth", ".safetensors"):
        file = tmp_path / f"file{suffix}"
        file.write_text(text, encoding="latin-1")
        said = refusal(*FILES[command], "-o", file)
        assert "exists and is not known to be a result" in said or "format of" in said
        assert file.read_text(encoding="latin-1") == text


@pytest.mark.parametrize("command", FOLDERS)
def test_an_output_folder_holds_other_files(command: str, tmp_path: Path) -> None:
    """An output folder exists and contains files that are not part of such a result.

    Then: it is refused before any work is done, and the files are kept.
    Do: choose another --output.
    """
    for name in ("hubconf.py", "comparison.json", "notes.txt"):
        (tmp_path / name).write_text("mine")
    refusal(*FOLDERS[command], "-o", tmp_path)
    assert [*contents(tmp_path).values()] == [b"mine"] * 3


def test_a_model_card_exists(run: Path, tmp_path: Path) -> None:
    """`ssl-zoo card RUN` would replace a file of that name that is not a model card.

    Then: it is refused before any work is done.
    Do: choose another --output or --name.
    """
    (tmp_path / "README.md").write_text("mine")
    said = refusal("card", run, "-o", tmp_path, "--name", "README")
    assert "README.md' is not a model card" in said
    assert "which only training changes" in refusal("card", run, "-o", run / "cards")
    (tmp_path / "mine.safetensors").write_text("mine")
    assert "mine.safetensors'" in refusal("card", run, "-o", tmp_path, "--name", "mine")


def test_an_output_is_a_device(tmp_path: Path) -> None:
    """`ssl-zoo evaluate ... -o /dev/null`, possibly as root.

    Then: it is refused; the device is not replaced by a file.
    Do: leave out --output.
    """
    assert "'/dev/null' cannot be written" in refusal(*FILES["evaluate"], "-o", "/dev/null")


def test_a_project_has_a_config_and_checkpoints(tmp_path: Path) -> None:
    """A project that is not a run has a file `config.yaml` and a folder `checkpoints`.

    Then: results can be written into it.
    Do: nothing.
    """
    (tmp_path / "config.yaml").write_text("a: 1\n")
    (tmp_path / "checkpoints").mkdir()
    folder.check_output(tmp_path / "clusters", overwrite=False)
    History(tmp_path).add(Event("complete"))
    with pytest.raises(UserError, match="which only training changes"):
        folder.check_output(tmp_path / "clusters", overwrite=False)


@pytest.mark.parametrize("overwrite", [False, True])
def test_clusters_are_written_twice_at_once(overwrite: bool, tmp_path: Path) -> None:
    """Two processes run `ssl-zoo cluster` with the same --output at the same time.

    Then: the second is refused before any work is done; no result is lost.
    Do: choose another --output.
    """
    inside, finished = threading.Event(), threading.Event()

    def first() -> None:
        with folder.writing_alone(tmp_path / "clusters", overwrite=overwrite):
            inside.set()
            finished.wait()

    thread = threading.Thread(target=first)
    thread.start()
    inside.wait()
    options = ["--overwrite"] if overwrite else []
    try:
        said = refusal(*FOLDERS["cluster"], "-o", tmp_path / "clusters", *options)
    finally:
        finished.set()
        thread.join()
    assert "another process is writing clusters to" in said
    assert [*tmp_path.iterdir()] == []


def test_clusters_appear_while_others_are_made(tmp_path: Path) -> None:
    """Clusters appear in the output folder while others are being written, on a file system without
    locks.

    Then: those that exist are kept; the command fails and says so.
    Do: choose another --output.
    """
    target = tmp_path / "clusters"

    def write() -> None:
        with folder.written_whole(target, overwrite=False) as place:
            (place / folder.RESULT).write_text("second")
            target.mkdir()
            (target / folder.RESULT).write_text("first")

    with pytest.raises(UserError, match="clusters cannot be written to '.*' .directory not empty"):
        write()
    assert contents(tmp_path) == {f"clusters/{folder.RESULT}": b"first"}


@pytest.mark.parametrize("command", [*FILES, *FOLDERS])
def test_an_output_is_not_utf8(command: str, tmp_path: Path) -> None:
    """The name of an output is not UTF-8.

    Then: it is refused before any work is done, because safetensors could not read it.
    Do: choose another --output.
    """
    name = os.fsdecode(b"new-\xff.csv" if command == "table" else b"new-\xff")
    said = refusal(*{**FILES, **FOLDERS}[command], "-o", tmp_path / name)
    assert "is not UTF-8; choose another --output" in said
    assert [*tmp_path.iterdir()] == []


def test_a_run_is_in_a_folder_that_is_not_utf8(small_run: Path, tmp_path: Path) -> None:
    """A folder above a run was renamed to a name that is not UTF-8.

    Then: `ssl-zoo jobs` lists the run, with the byte written out. Commands that need its weights refuse
    it in one line.
    Do: rename the folder.
    """
    parent = tmp_path / os.fsdecode(b"\xff")
    run = Path(shutil.copytree(small_run, parent / "run"))
    assert "is not valid UTF-8" in refusal("evaluate", run)
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    command = [sys.executable, "-m", "ssl_zoo", "jobs", str(parent)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True)
    assert rb"\udcff/run" in done.stdout
