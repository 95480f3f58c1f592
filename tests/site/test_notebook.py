"""The notebook of the site runs from top to bottom."""

import os
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.documents import ROOT

NOTEBOOK = ROOT / "docs" / "start" / "digits.ipynb"


def cells() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]


def test_the_notebook_is_kept_without_output() -> None:
    nbformat.validate(cells())
    assert [cell for cell in cells().cells if cell.get("outputs")] == []


@pytest.mark.slow
def test_the_notebook_runs_and_prints_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("SSL_ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    notebook = cells()
    NotebookClient(
        notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    printed = "".join(output["text"] for output in outputs if output.get("name") == "stdout")
    assert printed.count(" %") == 3
    assert any("image/png" in output.get("data", {}) for output in outputs)
