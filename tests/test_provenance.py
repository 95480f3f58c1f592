"""Provenance: what a result says of where it comes from."""

from pathlib import Path

import pytest

from ssl_zoo import provenance


def test_the_commit_of_another_repository_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = tmp_path / "site-packages" / "ssl_zoo" / "provenance.py"
    monkeypatch.setattr(provenance, "__file__", str(inside))
    monkeypatch.setattr(provenance, "_git", lambda folder, *arguments: str(tmp_path))
    assert provenance.commit() == "unknown"


def test_it_names_versions_commit_and_hardware() -> None:
    found = provenance.provenance()
    assert {"ssl_zoo", "commit", "torch", "faiss", "hardware"} <= found.keys()
    assert all(found.values())
