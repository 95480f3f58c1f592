"""The README's commands, typed in its order; `tests/slurm/test_docs.py` types those for a SLURM."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents import blocks, dead_links


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
def test_every_command_of_the_readme_runs(tmp_path: Path) -> None:
    lines = [
        line for block in blocks("README.md", "bash") if not block.needs for line in block.commands
    ]
    commands = [line for line in lines if line.startswith(("ssl-zoo", "torchrun"))]
    assert len(commands) >= 9
    for command in commands:
        run(command, tmp_path)
    programs = blocks("README.md", "python")
    assert len(programs) == 2
    for program in programs:
        (tmp_path / "program.py").write_text(program.text)
        run(f"{sys.executable} program.py", tmp_path)


@pytest.mark.parametrize("page", ["README.md", "docs/cluster.md"])
def test_links_of_the_documentation_lead_somewhere(page: str) -> None:
    assert dead_links(page) == []
