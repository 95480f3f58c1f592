"""A site with a SLURM whose sbatch accepts every job."""

import os
from pathlib import Path

import pytest

SBATCH = """#!/bin/sh
cat "$1" >>{folder}/scripts
n=$(cat {folder}/next 2>/dev/null || echo 7)
echo $((n + 1)) >{folder}/next
echo "Submitted batch job $n"
"""


class Site:
    """A site whose sbatch takes everything and whose squeue says what it is told to."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin = folder, folder / "bin"
        self.bin.mkdir()
        self.client("sbatch", SBATCH.format(folder=folder))
        self.client("sacct", "#!/bin/sh\nexit 1\n")
        self.queue()

    def client(self, name: str, text: str) -> None:
        file = self.bin / name
        file.write_text(text)
        file.chmod(0o755)

    def queue(self, *jobs: str) -> None:
        """Puts running jobs into the queue."""
        from ssl_zoo.jobs.queue import SQUEUE_COLUMNS

        widths = SQUEUE_COLUMNS.values()
        values = ("RUNNING", "0", "0:0", "N/A", "1:00:00", "node1", "None")
        rows = [
            "".join(v.ljust(w) for v, w in zip((job, *values), widths, strict=True))
            for job in jobs
        ]
        (self.folder / "rows").write_text("".join(f"{row}\n" for row in rows))
        self.client("squeue", f"#!/bin/sh\ncat {self.folder}/rows\n")

    @property
    def scripts(self) -> str:
        file = self.folder / "scripts"
        return file.read_text() if file.exists() else ""


def make_site(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Puts the clients of a site in front of others, and runs and profiles into a folder."""
    found = Site(folder)
    monkeypatch.setenv("PATH", f"{found.bin}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SSL_ZOO_RUNS", str(folder / "runs"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "profiles"))
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    return found
