"""Files that are whole or absent, their digests, and locks between processes."""

import subprocess
import sys
from pathlib import Path

import pytest

from ssl_zoo.files import locked, sha256, write_text

HOLD = """
import sys
from pathlib import Path
from ssl_zoo.files import locked
with locked(Path(sys.argv[1])) as ours:
    print(ours, flush=True)
    sys.stdin.read()
"""


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    file = tmp_path / "one"
    for text in ("old", "new"):
        write_text(file, text)
    assert file.read_text() == "new"
    assert [*tmp_path.iterdir()] == [file]


def test_a_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    expected = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # FIPS 180-4
    assert sha256(tmp_path / "empty") == expected


def test_a_lock_of_another_process_is_respected_until_it_ends(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    command = [sys.executable, "-c", HOLD, str(lock)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        with locked(lock) as ours:
            assert not ours
        other.kill()
    with locked(lock, patience_s=60) as ours:
        assert ours


def test_a_lock_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"), locked(tmp_path / "gone" / ".lock"):
        pass


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
