"""Provenance: what a result says of where it comes from."""

import json
import subprocess
from pathlib import Path

import pytest

from ssl_zoo.runs import provenance


def git(folder: Path, *arguments: str) -> str:
    """Runs git as somebody, whoever runs the tests."""
    who = ["-c", "user.name=me", "-c", "user.email=me@example.org"]
    done = subprocess.run(
        ["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty git repository that the package seems to lie in."""
    package = tmp_path / "repository" / "ssl_zoo"
    package.mkdir(parents=True)
    git(package.parent, "init", "--quiet")
    monkeypatch.setattr(provenance, "__file__", str(package / "runs" / "provenance.py"))
    return package.parent


def commit_file(root: Path) -> str:
    (root / "ssl_zoo" / "file").write_text("one")
    git(root, "add", "ssl_zoo/file")
    git(root, "commit", "--quiet", "--no-verify", "-m", "One")
    return git(root, "rev-parse", "--short=12", "HEAD")


def test_a_checkout_says_its_commit_and_whether_it_was_changed(root: Path) -> None:
    assert (provenance.checkout(), provenance.commit()) == (root.resolve(), "unknown")
    name = commit_file(root)
    assert provenance.commit() == name
    (root / "ssl_zoo" / "file").write_text("two")
    assert provenance.commit() == f"{name}-dirty"


def test_the_commit_of_another_repository_is_not_ours(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit_file(root)
    inside = root / "site-packages" / "ssl_zoo"
    inside.mkdir(parents=True)
    monkeypatch.setattr(provenance, "__file__", str(inside / "runs" / "provenance.py"))
    assert (provenance.checkout(), provenance.commit()) == (None, "unknown")


def test_a_copy_of_the_code_says_what_it_was_copied_from(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit_file(root)
    copy = root / "runs" / "swav" / "code"
    (copy / "ssl_zoo").mkdir(parents=True)
    (copy / provenance.SNAPSHOT).write_text(json.dumps({"commit": "abc-dirty"}))
    monkeypatch.setattr(provenance, "__file__", str(copy / "ssl_zoo" / "runs" / "provenance.py"))
    assert provenance.commit() == "abc-dirty"


def test_without_git_the_commit_is_unknown(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit_file(root)
    monkeypatch.setenv("PATH", str(root))
    assert provenance.commit() == "unknown"


def test_it_names_versions_commit_and_hardware() -> None:
    found = provenance.provenance()
    assert {"ssl_zoo", "commit", "torch", "faiss", "hardware"} <= found.keys()
    assert all(found.values())
