"""Runs the commands of README and docs/ in order; `tests/slurm/test_docs.py` runs those for SLURM."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ssl_zoo.evaluators.base import EVALUATORS
from ssl_zoo.evaluators.knn.protocols import PROTOCOLS
from ssl_zoo.formats.base import FORMATS
from tests.documents import blocks, dead_links, read

SCORING = "docs/scoring.md"


def run(command: str, folder: Path) -> None:
    binaries = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": binaries + os.pathsep + os.environ["PATH"]}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "n_commands", "n_programs"), [("README.md", 9, 2), (SCORING, 8, 0)]
)
def test_every_command_of_a_page_runs(
    page: str, n_commands: int, n_programs: int, tmp_path: Path
) -> None:
    lines = [line for block in blocks(page, "bash") if not block.needs for line in block.commands]
    commands = [line for line in lines if line.startswith(("ssl-zoo", "torchrun"))]
    assert len(commands) >= n_commands
    for command in commands:
        run(command, tmp_path)
    programs = blocks(page, "python")
    assert len(programs) == n_programs
    for program in programs:
        (tmp_path / "program.py").write_text(program.text)
        run(f"{sys.executable} program.py", tmp_path)


def test_scoring_page_lists_every_evaluator_format_and_protocol() -> None:
    text = read(SCORING)
    for name in (*EVALUATORS, *FORMATS):
        assert f"`{name}`" in text or f"`{name}:" in text, name
    for protocol in PROTOCOLS.values():
        assert f"| `{protocol.name}` |" in text
        assert f"| `{protocol.digest()}` |" in text


@pytest.mark.parametrize("page", ["README.md", "docs/cluster.md", SCORING])
def test_documentation_links_resolve(page: str) -> None:
    assert dead_links(page) == []
