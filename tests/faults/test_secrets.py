"""Keys and passwords, and who can read what is written."""

import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from ssl_zoo.errors import UserError
from ssl_zoo.launch import snapshot
from ssl_zoo.launch.snapshot import take_snapshot
from ssl_zoo.runs.folder import RunFolder
from ssl_zoo.runs.provenance import provenance
from tests.runs.test_provenance import git
from tests.small import fast_config

SECRETS = (".env", ".env.local", "server.pem", "id_rsa", "Credentials.json", ".netrc", "my.key")
TOKEN = "s3cret-t0ken"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small checkout with one commit, whose code is copied for runs."""
    root = tmp_path / "checkout"
    (root / "ssl_zoo").mkdir(parents=True)
    (root / "ssl_zoo" / "__init__.py").touch()
    (root / "methods").mkdir()
    git(root, "init", "--quiet")
    git(root, "remote", "add", "origin", f"https://me:{TOKEN}@host/repository.git")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--no-verify", "-m", "One")
    monkeypatch.setattr(snapshot, "__file__", str(root / "ssl_zoo" / "launch" / "snapshot.py"))
    monkeypatch.setattr(snapshot, "checkout", lambda: root)
    monkeypatch.setattr(snapshot, "_plugins", dict)
    return root


def names(folder: Path) -> set[str]:
    """Returns the names of all files in a folder."""
    return {path.name for path in folder.rglob("*") if path.is_file()}


def everything(folder: Path) -> bytes:
    """Returns the contents of all files in a folder."""
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_secrets_next_to_the_code(
    checkout: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Files such as `.env`, `id_rsa` or `server.pem` lie in the code, and a run is submitted.

    Then: they are not copied to the run folder, whether git knows them or not; a warning names them.
    Do: nothing; keep such files elsewhere.
    """
    for name in SECRETS:
        (checkout / "methods" / name).write_text(TOKEN)
    git(checkout, "add", "methods/.env")
    (checkout / "methods" / "mine.py").touch()
    with caplog.at_level(logging.WARNING):
        take_snapshot(tmp_path / "run" / "code")
    assert "mine.py" in names(tmp_path / "run")
    assert not names(tmp_path / "run") & set(SECRETS)
    assert TOKEN.encode() not in everything(tmp_path / "run")
    assert all(name in caplog.text for name in SECRETS)


def test_a_secret_behind_a_link(checkout: Path, tmp_path: Path) -> None:
    """A file in the code is a link to a key.

    Then: the key is not copied.
    Do: nothing.
    """
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "work").write_text(TOKEN)
    (checkout / "methods" / "notes.txt").symlink_to(tmp_path / ".ssh" / "work")
    take_snapshot(tmp_path / "run" / "code")
    assert "notes.txt" not in names(tmp_path / "run")


def test_a_file_that_git_ignores(checkout: Path, tmp_path: Path) -> None:
    """The code contains files that `.gitignore` names.

    Then: they are not copied.
    Do: nothing.
    """
    (checkout / ".gitignore").write_text("notes.txt\n")
    (checkout / "methods" / "notes.txt").touch()
    take_snapshot(tmp_path / "run" / "code")
    assert "notes.txt" not in names(tmp_path / "run")


def test_a_file_that_only_its_owner_can_read(checkout: Path, tmp_path: Path) -> None:
    """A file of the code can be read by its owner only.

    Then: so can its copy.
    Do: nothing.
    """
    for name, mode in (("mine.py", 0o600), ("run.sh", 0o755)):
        (checkout / "methods" / name).touch()
        (checkout / "methods" / name).chmod(mode)
    take_snapshot(tmp_path / "one")
    take_snapshot(tmp_path / "two", like=tmp_path / "one")
    for copy in (tmp_path / "one", tmp_path / "two"):
        modes = [
            (copy / "methods" / name).stat().st_mode & 0o777 for name in ("mine.py", "run.sh")
        ]
        assert modes == [0o600, 0o755]


def test_gigabytes_next_to_the_code(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large file lies in the code, and a run is submitted.

    Then: it is refused before anything is copied; the line names the file.
    Do: move the file out of the code, or name it in `.gitignore`.
    """
    monkeypatch.setattr(snapshot, "MOST_BYTES", 1_000_000)
    (checkout / "methods" / "data.bin").write_bytes(bytes(2_000_000))
    with pytest.raises(UserError, match=r"'methods/data.bin' of 2 MB"):
        take_snapshot(tmp_path / "run" / "code")
    assert not (tmp_path / "run").exists()


def test_passwords_in_the_environment_and_in_the_address_of_the_repository(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address of the git repository, or an environment variable, holds a token.

    Then: it is in no file of the run folder, and not in the provenance of results.
    Do: nothing.
    """
    monkeypatch.setenv("MY_API_KEY", TOKEN)
    (checkout / "ssl_zoo" / "__init__.py").write_text("changed = True\n")
    take_snapshot(tmp_path / "run" / "code")
    assert "diff.patch" in names(tmp_path / "run")
    assert TOKEN.encode() not in everything(tmp_path / "run")
    assert TOKEN not in str(provenance())


@pytest.fixture
def private() -> Iterator[None]:
    """New files can be read by their owner only."""
    before = os.umask(0o077)
    yield
    os.umask(before)


def test_a_user_whose_files_are_private(private: None, checkout: Path, tmp_path: Path) -> None:
    """The user's umask makes new files private.

    Then: run folders and all files in them are private too.
    Do: nothing.
    """
    run = RunFolder(tmp_path / "runs" / "one")
    run.begin(fast_config("simclr"))
    take_snapshot(run.path / "code")
    modes = {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in (tmp_path / "runs").rglob("*")}
    assert modes == {0}
